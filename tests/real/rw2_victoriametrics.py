#!/usr/bin/env python3
"""Prometheus 3.14, RW 2.0, into VictoriaMetrics, which answers 204 to RW 2.0 and stores nothing: the proxy
must notice, and deliver all of it as 1.0."""

import programs
import stores
from programs import DIRECT, UNTOUCHED
from scenario import insist, insist_comparison_can_fail, insist_holds, main, summary
from sender import Sender, read_stopped


def scenario(folder):
    receiver = programs.victoriametrics(folder)
    proxy = programs.proxy(folder, receiver.url + "/api/v1/write", "--protobuf-message", "auto")
    sender = Sender(folder, programs.NEWEST)
    sender.start(
        proxy.write_url,
        pages=("text", "openmetrics"),
        remote_write={"protobuf_message": "io.prometheus.write.v2.Request"},
    )
    sender.scrape_all()
    sender.wait_sent()
    failed = sender.failed()
    sender.stop()
    proxy.wait_empty()
    noticed = DIRECT or [value for name, _, value in proxy.metrics() if name == programs.PROTOCOL_2] == [0]
    proxy.stop()
    proxy.deliver_rest()
    sent, stored = read_stopped(sender.prometheus), stores.read_victoriametrics(receiver.url)
    counts = stores.census(sent)
    if UNTOUCHED:
        return insist_silence(counts, stored, failed)
    insist(stores.compare_with_victoriametrics(sent, stored), "storage")
    insist_holds(counts, "stale markers", "NaNs", "infinities")
    insist_comparison_can_fail(sent, stored, stores.compare_with_victoriametrics)
    if failed:
        raise RuntimeError(f"the sender counts {failed:.0f} as failed")
    if not noticed:
        raise RuntimeError("no metric of the proxy tells that the receiver does not take 2.0")
    return summary(counts)


def insist_silence(counts, stored, failed):
    """Without the proxy: the receiver is as described, and Prometheus counts all it sent as failed."""
    if stored or failed < counts["samples"]:
        raise RuntimeError(f"{len(stored)} series stored, {failed:.0f} of {counts['samples']} samples failed")
    return f"answered 2xx, stored nothing; the sender counts {failed:.0f} samples as failed"


main(scenario)
