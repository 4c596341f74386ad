#!/usr/bin/env python3
"""Debian's Prometheus, RW 1.0 with exemplars and native histograms, into a second one: every series, sample
and bit, also through the end of both: the sender's last flush arrives while the proxy has been told to stop."""

import programs
import stores
from scenario import (
    compare_entries,
    insist,
    insist_comparison_can_fail,
    insist_holds,
    main,
    summary,
    with_external_labels,
)
from sender import Sender, read_stopped

FEATURES = ("exemplar-storage", "native-histograms")


def scenario(folder):
    receiver = programs.Prometheus(programs.DEBIAN, "receiver", folder, FEATURES, receiver=True).start()
    proxy = programs.proxy(folder, receiver.url + "/api/v1/write", *programs.disk_log(folder))
    sender = Sender(folder, features=FEATURES)
    sender.start(
        proxy.write_url,
        pages=("text", "openmetrics", "protobuf"),
        remote_write={"send_exemplars": True, "send_native_histograms": True},
        # A deadline this long leaves the last samples, stale markers among them, to the flush.
        queue={"batch_send_deadline": "10s"},
    )
    sender.scrape_all()
    sender.wait_enqueued()
    _, pending = sender.unsent()
    sender.prometheus.terminate()
    proxy.terminate()
    sender.prometheus.wait()
    proxy_status = proxy.wait()
    proxy.deliver_rest()
    receiver.stop()
    sent = with_stale_histograms_of_one_kind(read_stopped(sender.prometheus))
    stored = with_stale_histograms_of_one_kind(read_stopped(receiver))
    insist(stores.compare(sent, stored), "storage")
    exemplars = with_external_labels(stores.read_exemplars(sender.prometheus.url))
    compare_entries(exemplars, stores.read_exemplars(receiver.url), "exemplars")
    if proxy_status != 0:
        raise RuntimeError(f"sluicegate exited with {proxy_status}")
    counts = stores.census(sent)
    insist_holds(counts, "stale markers", "NaNs", "infinities", "subnormals")
    insist_comparison_can_fail(sent, stored)
    found = sum(map(len, exemplars.values()))
    return f"{summary(counts)}; {found} exemplars; {pending:.0f} of all flushed at the end"


def with_stale_histograms_of_one_kind(store):
    """2.42 stores the stale marker of a float histogram that comes by remote write as one of an integer histogram."""
    return {
        labels: {
            timestamp: value._replace(is_float=False)
            if isinstance(value, stores.Histogram) and stores.is_stale(value)
            else value
            for timestamp, value in samples.items()
        }
        for labels, samples in store.items()
    }


main(scenario)
