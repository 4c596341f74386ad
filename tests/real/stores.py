"""What the stores hold, read as exactly as each of them can tell, and how to compare it.

A store's content is `{labels: {timestamp: value}}`: labels as a sorted tuple of (name, value)
pairs, the timestamp in milliseconds, a float sample as its 64 bits (int) and a histogram sample
as a `Histogram`.
"""

import json
import math
import re
import urllib.error
import urllib.parse
import urllib.request
from collections import namedtuple

import wire
from wire import STALE_BITS, bits_of, float_of

FAR_FUTURE_MS = 4102444800000


# Everything is on this machine, whatever proxy the environment names.
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def http(url, body=None, headers=None, timeout=30):
    """One request; returns (status, headers, body) whatever the status says."""
    request = urllib.request.Request(url, data=body, headers=headers or {})
    try:
        with OPENER.open(request, timeout=timeout) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def get(url, timeout=30):
    status, _, body = http(url, timeout=timeout)
    if status != 200:
        raise RuntimeError(f"{url}: {status} {body[:300]!r}")
    return body


# --- Prometheus: remote read ---------------------------------------------------------

# A histogram without what storage may change: the split of its buckets into spans (chunks are
# recoded when a bucket joins, which leaves empty ones) and the counter reset hint, which only
# tells where a chunk begins; `gauge` is the one hint that belongs to the sample.
Histogram = namedtuple(
    "Histogram", "is_float count sum schema zero_threshold zero_count negative positive custom_values gauge"
)


def read_prometheus(base_url):
    """Everything in the storage of a Prometheus, raw, stale markers included.

    Bit for bit, but for -0: Prometheus' protobuf encoder leaves out a value that equals 0, here as in
    its remote write, so that a -0 from a Prometheus is on the wire as 0 already. odd_bits.py sends one.
    """
    every_series = wire.put_varint(1, 2) + wire.put_bytes(2, "__name__") + wire.put_bytes(3, ".+")
    query = wire.put_varint(1, 0) + wire.put_varint(2, FAR_FUTURE_MS) + wire.put_bytes(3, every_series)
    request = wire.put_bytes(1, query) + wire.put_varint(2, 0)  # answer as SAMPLES, not as chunks
    status, _, body = http(
        base_url + "/api/v1/read",
        wire.snappy_compress(request),
        {
            "Content-Type": "application/x-protobuf",
            "Content-Encoding": "snappy",
            "X-Prometheus-Remote-Read-Version": "0.1.0",
        },
        timeout=60,
    )
    if status != 200:
        raise RuntimeError(f"remote read: {status} {body[:300]!r}")
    store = {}
    for number, result in wire.fields(wire.snappy_decompress(body)):
        if number != 1:
            continue
        for number, series in wire.fields(result):
            if number == 1:
                labels, samples = decode_series(series)
                store.setdefault(labels, {}).update(samples)
    return store


def decode_series(message):
    labels, samples = [], {}
    for number, value in wire.fields(message):
        if number == 1:
            pair = dict(wire.fields(value))
            labels.append((pair.get(1, b"").decode(), pair.get(2, b"").decode()))
        elif number == 2:
            sample = dict(wire.fields(value))
            samples[wire.signed(sample.get(2, 0))] = sample.get(1, 0)
        elif number == 4:
            timestamp, histogram = decode_histogram(value)
            samples[timestamp] = histogram
    return tuple(sorted(labels)), samples


def decode_histogram(message):
    one, many = {}, {n: [] for n in (8, 9, 10, 11, 12, 13, 16)}
    for number, value in wire.fields(message):
        if number in (8, 11):
            many[number].append(dict(wire.fields(value)))
        elif number in (9, 12):
            many[number] += [wire.unzigzag(v) for v in wire.unpack_varints(value)]
        elif number in (10, 13, 16):
            many[number] += wire.unpack_fixed64(value)
        else:
            one[number] = value
    is_float = 2 in one
    return wire.signed(one.get(15, 0)), Histogram(
        is_float=is_float,
        count=one.get(2 if is_float else 1, 0),
        sum=one.get(3, 0),
        schema=wire.unzigzag(one.get(4, 0)),
        zero_threshold=one.get(5, 0),
        zero_count=one.get(7 if is_float else 6, 0),
        negative=buckets(many[8], many[9], many[10]),
        positive=buckets(many[11], many[12], many[13]),
        custom_values=tuple(many[16]),
        gauge=one.get(14, 0) == 3,
    )


def buckets(spans, deltas, counts):
    """{bucket index: count} as a sorted tuple; empty buckets say nothing and are left out."""
    if deltas:
        running, counts = 0, []
        for delta in deltas:
            running += delta
            counts.append(running)
    out, index, at = [], 0, 0
    for span in spans:
        index += wire.unzigzag(span.get(1, 0))
        for _ in range(span.get(2, 0)):
            if counts[at]:
                out.append((index, counts[at]))
            index, at = index + 1, at + 1
    return tuple(out)


def read_exemplars(base_url):
    """{series labels: {(timestamp ms, exemplar labels, value bits)}}"""
    query = urllib.parse.urlencode({"query": '{__name__=~".+"}', "start": 0, "end": FAR_FUTURE_MS // 1000})
    answer = json.loads(get(f"{base_url}/api/v1/query_exemplars?{query}"))
    out = {}
    for entry in answer["data"]:
        found = out.setdefault(tuple(sorted(entry["seriesLabels"].items())), set())
        for exemplar in entry["exemplars"]:
            found.add((
                round(exemplar["timestamp"] * 1000),
                tuple(sorted(exemplar["labels"].items())),
                bits_of(float(exemplar["value"])),
            ))
    return out


# --- VictoriaMetrics -----------------------------------------------------------------

# How VictoriaMetrics (1.79) stores floats, and so what of them can be compared:
# * a value is a decimal mantissa of 64 bits and an exponent. Integers are exact; a float that is no short
#   decimal is cut to about 12 digits; below some 1e-290 it becomes 0; -0 becomes 0;
# * the samples of a block share their exponent: a small value beside a large one loses digits, or all;
# * a NaN that is not the stale marker is not stored at all;
# * +Inf, -Inf and the stale marker are kept;
# * timestamps are exact, and equal ones are all kept: a sample that came twice shows;
# * native histograms are not understood: their series are not there.


def read_victoriametrics(base_url):
    """{labels: [(timestamp, float or None)]} in the order of time; None is the stale marker."""
    get(base_url + "/internal/force_flush")  # what came is not searchable for up to a second
    query = urllib.parse.urlencode({"match[]": '{__name__!=""}', "start": 0, "end": FAR_FUTURE_MS // 1000})
    store = {}
    for line in get(f"{base_url}/api/v1/export?{query}", timeout=60).splitlines():
        # Infinities are written as no JSON has them, and a stale marker as null, or NaN when it comes first.
        entry = json.loads(re.sub(rb"(?<=[\[,])\+?(-?)Inf(?=[,\]])", rb"\1Infinity", line))
        samples = [
            (timestamp, None if value is None or math.isnan(value) else value)
            for timestamp, value in zip(entry["timestamps"], entry["values"])
        ]
        store.setdefault(tuple(sorted(entry["metric"].items())), []).extend(samples)
    for samples in store.values():
        samples.sort(key=lambda sample: sample[0])
    return store


def as_victoriametrics_keeps(store):
    """A Prometheus' content in the form of `read_victoriametrics`."""
    out = {}
    for labels, samples in store.items():
        kept = []
        for timestamp, bits in sorted(samples.items()):
            if isinstance(bits, Histogram):
                continue
            value = float_of(bits)
            if bits == STALE_BITS:
                kept.append((timestamp, None))
            elif not math.isnan(value):
                kept.append((timestamp, value))
        if kept:
            out[labels] = kept
    return out


def compare_with_victoriametrics(sender, stored):
    wanted = as_victoriametrics_keeps(sender)
    differences = compare_series(wanted, stored)
    for labels in wanted.keys() & stored.keys():
        want, have = wanted[labels], stored[labels]
        if [t for t, _ in want] != [t for t, _ in have]:
            differences.append(
                f"{show(labels)}: {len(have)} timestamps stored of {len(want)}: {first_difference(want, have)}"
            )
            continue
        exact = all(v is None or v == math.trunc(v) and abs(v) < 1 << 53 for _, v in want if not is_infinite(v))
        largest = 0.0 if exact else max(abs(v) for _, v in want if v is not None and not math.isinf(v))
        for (timestamp, a), (_, b) in zip(want, have):
            same = a == b if exact or a is None or b is None or is_infinite(a) else nearly(a, b, largest)
            if not same:
                differences.append(f"{show(labels)} at {timestamp}: sent {a!r}, stored {b!r}")
    return differences


def is_infinite(value):
    return value is not None and math.isinf(value)


def nearly(sent, stored, largest):
    """12 digits of its own, 17 after the largest of the series."""
    return abs(sent - stored) <= max(abs(sent) * 2e-12, largest * 1e-17, 1e-290)


def first_difference(want, have):
    want_times, have_times = [t for t, _ in want], [t for t, _ in have]
    missing = sorted(set(want_times) - set(have_times))
    extra = sorted(set(have_times) - set(want_times))
    if missing or extra:
        return f"missing {missing[:3]}, not sent {extra[:3]}"
    return "the same timestamps, some of them more than once"


# --- comparing -----------------------------------------------------------------------


def compare(sender, receiver):
    """What is not the same, as sentences; empty when every series and every bit is."""
    differences = compare_series(sender, receiver)
    for labels in sender.keys() & receiver.keys():
        want, have = sender[labels], receiver[labels]
        if want == have:
            continue
        for timestamp in sorted(want.keys() | have.keys()):
            a, b = want.get(timestamp), have.get(timestamp)
            if a != b:
                differences.append(f"{show(labels)} at {timestamp}: sender {show_value(a)}, receiver {show_value(b)}")
    return differences


def compare_series(sender, receiver):
    differences = [f"{show(labels)}: not at the receiver" for labels in sorted(sender.keys() - receiver.keys())]
    differences += [f"{show(labels)}: only at the receiver" for labels in sorted(receiver.keys() - sender.keys())]
    return differences


def show(labels):
    return "{" + ",".join(f"{name}={value[:60]!r}" for name, value in labels) + "}"


def show_value(value):
    if value is None:
        return "nothing"
    if isinstance(value, int):
        return "stale marker" if value == STALE_BITS else f"{float_of(value)!r} ({value:#018x})"
    return str(value)


def is_stale(value):
    return (value.sum if isinstance(value, Histogram) else value) == STALE_BITS


def census(store):
    """Counts of what a store holds, for a test to insist that it compared what it claims to."""
    floats = [v for samples in store.values() for v in samples.values() if not isinstance(v, Histogram)]
    histograms = [v for samples in store.values() for v in samples.values() if isinstance(v, Histogram)]
    return {
        "series": len(store),
        "samples": len(floats),
        "stale markers": sum(map(is_stale, floats)),
        "NaNs": sum(1 for v in floats if math.isnan(float_of(v)) and not is_stale(v)),
        "infinities": sum(1 for v in floats if math.isinf(float_of(v))),
        "subnormals": sum(1 for v in floats if 0 < v & ~(1 << 63) < 1 << 52),
        "histograms": len(histograms),
        "float histograms": sum(1 for h in histograms if h.is_float),
        "gauge histograms": sum(1 for h in histograms if h.gauge),
        "custom-bucket histograms": sum(1 for h in histograms if h.custom_values),
        "stale histograms": sum(map(is_stale, histograms)),
    }
