#!/usr/bin/env python3
"""Prometheus 3.14, RW 2.0, into another: samples, native histograms (integer, float, gauge, custom buckets),
exemplars, metadata and start timestamps."""

import head_log
import programs
import stores
from scenario import GLOBAL, Sender, census, compare, insist, insist_comparison_can_fail, insist_holds, main, summary

PAGES = ("text", "openmetrics", "protobuf", "classic")
SENDER_FEATURES = ("exemplar-storage", "metadata-wal-records", "st-storage", "xor2-encoding")
# A receiver keeps a start timestamp only as a zero before the first sample of its series.
RECEIVER_FEATURES = ("exemplar-storage", "metadata-wal-records", "created-timestamp-zero-ingestion")


def scenario(folder):
    receiver = programs.Prometheus(programs.NEWEST, "receiver", folder, RECEIVER_FEATURES, receiver=True).start()
    proxy = programs.proxy(folder, receiver.url + "/api/v1/write", "--storage.path", folder + "/proxy-data")
    sender = Sender(folder, programs.NEWEST, SENDER_FEATURES)
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
    sender.scrape_all()
    sender.wait_sent()
    failed = sender.failed()
    sender.stop()
    proxy.wait_empty()
    proxy.stop()
    sent, stored = sender.contents(), stores.read_prometheus(receiver.url)
    expected, zeros = with_start_zeros(sent, with_external_labels(head_log.read_starts(sender.prometheus.data)))
    insist(compare(expected, stored), "storage")
    exemplars = with_external_labels(stores.read_exemplars(sender.prometheus.url))
    compare_entries(exemplars, stores.read_exemplars(receiver.url), "exemplars")
    metadata = with_external_labels(head_log.read_metadata(sender.prometheus.data))
    compare_entries(metadata, head_log.read_metadata(receiver.data), "metadata")
    if failed:
        raise RuntimeError(f"the sender counts {failed:.0f} as failed")
    counts = census(sent)
    insist_holds(
        counts, "stale markers", "NaNs", "float histograms", "gauge histograms", "custom-bucket histograms", "stale histograms"
    )
    insist_comparison_can_fail(expected, stored)
    found = sum(map(len, exemplars.values()))
    return f"{summary(counts)}; {found} exemplars, {len(metadata)} series with metadata, {zeros} starts"


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


def with_external_labels(content):
    """The log holds series as they are scraped; external labels join them on the way out."""
    external = GLOBAL["external_labels"].items()
    return {tuple(sorted({**dict(external), **dict(labels)}.items())): entry for labels, entry in content.items()}


def compare_entries(sent, stored, what):
    """Exemplars or metadata of each series."""
    differences = stores.compare_series(sent, stored)
    for labels in sent.keys() & stored.keys():
        if sent[labels] != stored[labels]:
            differences.append(f"{stores.show(labels)}: sender {sent[labels]}, receiver {stored[labels]}")
    insist(differences, what)
    if not sent:
        raise RuntimeError(f"the sender has no {what}")


main(scenario)
