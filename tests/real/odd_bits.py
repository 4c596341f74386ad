#!/usr/bin/env python3
"""Floats no Prometheus sends but any sender may: NaNs with a payload, -0, in a request written by hand,
through the proxy into Debian's Prometheus; and the stale marker among them."""

import time

import programs
import stores
import wire
from scenario import insist, insist_comparison_can_fail, main

VALUES = {
    "stale_marker": wire.STALE_BITS,
    "normal_nan": 0x7FF8000000000001,
    "signalling_nan": 0x7FF0000000000001,
    "nan_with_payload": 0x7FF8DEADBEEFCAFE,
    "negative_nan": 0xFFF8000000000000,
    "all_ones": (1 << 64) - 1,
    "positive_infinity": 0x7FF0000000000000,
    "smallest_subnormal": 1,
    "largest_subnormal": 0x000FFFFFFFFFFFFF,
    "one_and_a_bit": 0x3FF0000000000001,
    "negative_zero": 1 << 63,
}


def scenario(folder):
    receiver = programs.Prometheus(programs.DEBIAN, "receiver", folder, receiver=True).start()
    proxy = programs.proxy(folder, receiver.url + "/api/v1/write")
    now = int(time.time() * 1000)
    series = [({"__name__": "odd_bits", "kind": kind}, [(now, bits)]) for kind, bits in VALUES.items()]
    status, _, body = stores.http(proxy.write_url, wire.write_request(series), wire.WRITE_HEADERS)
    if status // 100 != 2:
        raise RuntimeError(f"answered {status}: {body[:300]!r}")
    proxy.wait_empty()
    sent = {tuple(sorted(labels.items())): dict(samples) for labels, samples in series}
    stored = stores.read_prometheus(receiver.url)
    for labels in sent:
        if dict(labels)["kind"] == "negative_zero":
            restore_negative_zero(receiver, stored[labels])
    insist(stores.compare(sent, stored), "storage")
    insist_comparison_can_fail(sent, stored)
    return f"{len(series)} floats"


def restore_negative_zero(receiver, samples):
    """Remote read leaves out a -0 as if it were 0; the text of a query's answer does not."""
    [found] = receiver.query('odd_bits{kind="negative_zero"}')
    if found["value"][1] == "-0":
        for timestamp in samples:
            samples[timestamp] = 1 << 63


main(scenario)
