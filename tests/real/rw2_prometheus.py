#!/usr/bin/env python3
"""Prometheus 3.14, RW 2.0, into another: samples, native histograms (integer, float, gauge, custom buckets),
exemplars, metadata and start timestamps."""

import time

import head_log
import programs
import stores
import wire
from programs import DIRECT, UNTOUCHED
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

PAGES = ("text", "openmetrics", "protobuf", "classic", "utf8")
SENDER_FEATURES = ("exemplar-storage", "metadata-wal-records", "st-storage", "xor2-encoding")
# A receiver keeps a start timestamp only as a zero before the first sample of its series.
RECEIVER_FEATURES = ("exemplar-storage", "metadata-wal-records", "created-timestamp-zero-ingestion")


def scenario(folder):
    receiver = programs.Prometheus(programs.NEWEST, "receiver", folder, RECEIVER_FEATURES, receiver=True).start()
    proxy = programs.proxy(folder, receiver.url + "/api/v1/write", *programs.disk_log(folder))
    sender = Sender(folder, programs.NEWEST, SENDER_FEATURES, receiver=True)
    sender.start(
        proxy.write_url,
        pages=PAGES,
        remote_write={
            "protobuf_message": "io.prometheus.write.v2.Request",
            "send_exemplars": True,
            "send_native_histograms": True,
        },
        scrape_defaults={"scrape_native_histograms": True},
    )
    sender.scrape_all(halfway=lambda: give_metadata(sender.prometheus))
    sender.wait_sent()
    failed = sender.failed()
    sender.stop()
    proxy.wait_empty()
    refused = 0 if DIRECT else proxy.total(programs.DROPPED, 'kind="exemplar"', 'reason="rejected"')
    proxy.stop()
    proxy.deliver_rest()
    receiver.stop()
    sent, stored = read_stopped(sender.prometheus), read_stopped(receiver)
    expected, zeros = with_start_zeros(sent, with_external_labels(head_log.read_starts(sender.prometheus.data)))
    insist(stores.compare(expected, stored), "storage")
    metadata = with_external_labels(head_log.read_metadata(sender.prometheus.data))
    compare_entries(metadata, head_log.read_metadata(receiver.data), "metadata")
    exemplars = with_external_labels(stores.read_exemplars(sender.prometheus.url))
    found = sum(map(len, exemplars.values()))
    stored_exemplars = stores.read_exemplars(receiver.url)
    if UNTOUCHED:
        # Prometheus sends its exemplars in series without a sample, and no Prometheus takes those.
        if stored_exemplars or failed != found:
            raise RuntimeError(f"{len(stored_exemplars)} series have exemplars, {failed:.0f} of {found} failed")
    else:
        compare_exemplars(exemplars, stored_exemplars, refused)
        if failed > refused:
            raise RuntimeError(f"the sender counts {failed:.0f} as failed, of {refused:.0f} refused exemplars")
    counts = stores.census(sent)
    insist_holds(
        counts,
        "stale markers",
        "NaNs",
        "float histograms",
        "gauge histograms",
        "custom-bucket histograms",
        "stale histograms",
    )
    insist_comparison_can_fail(expected, stored)
    return f"{summary(counts)}; {found} exemplars, {len(metadata)} series with metadata, {zeros} starts"


def compare_exemplars(sent, stored, refused):
    """The sender puts an exemplar into a series of its own. Where its sample comes in the same batch the proxy
    puts both together; where the sender's requests part them, the receiver refuses the lone exemplar, and the
    proxy counts it. So what is missing is what was counted, and that is little."""
    missing = {labels: entry - stored.get(labels, set()) for labels, entry in sent.items()}
    missing = {labels: entry for labels, entry in missing.items() if entry}
    count = sum(map(len, missing.values()))
    if count != refused or count > sum(map(len, sent.values())) / 10:
        raise RuntimeError(f"{count} exemplars are missing, {refused:.0f} were counted as refused: {missing}")
    expected = {labels: entry - missing.get(labels, set()) for labels, entry in sent.items()}
    compare_entries(expected, stored, "exemplars")


def give_metadata(sender):
    """3.14 does not log the metadata of what it scrapes, whatever its feature flags; that of what it receives
    it does, and sends it on. So the sender is given some."""
    now = int(time.time() * 1000)
    series = [
        ({"__name__": f"given_{n % 7}_total", "n": str(n)}, [(now, wire.bits_of(1.0))], (1, f"Help {n % 7}.", "bytes"))
        for n in range(50)
    ]
    series += [
        ({"__name__": "given_without_unit"}, [(now, wire.bits_of(0.5))], (2, "A gauge, 水.", "")),
        ({"__name__": "given_type_only"}, [(now, wire.bits_of(1.0))], (6, "", "")),
    ]
    status, _, body = stores.http(sender.url + "/api/v1/write", wire.write_request_2(series), wire.WRITE_HEADERS_2)
    if status != 204:
        raise RuntimeError(f"the sender does not take metadata: {status} {body!r}")


def with_start_zeros(sent, starts):
    """The sender's content as such a receiver keeps it, and how many zeros that adds: a start timestamp
    after all samples so far of its series becomes a sample of nothing counted yet."""
    expected, zeros = {}, 0
    for labels, samples in sent.items():
        kept, newest = {}, -1
        for timestamp, value in sorted(samples.items()):
            start = starts.get(labels, {}).get(timestamp, 0)
            if newest < start < timestamp and start:
                kept[start] = zero_like(value)
                zeros += 1
            kept[timestamp] = value
            newest = timestamp
        expected[labels] = kept
    return expected, zeros


def zero_like(value):
    if isinstance(value, stores.Histogram):
        return value._replace(count=0, sum=0, zero_count=0, negative=(), positive=())
    return 0


main(scenario)
