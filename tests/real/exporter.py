#!/usr/bin/env python3
"""An instrumented target: everything a scrape can hold that a remote-write path may spoil.

Each page is a function of the scrape's number, so that series come, go and come back at known
scrapes. Pages:
  /text         counters, floats with special bits, series that vanish, awkward labels
  /openmetrics  exemplars, created timestamps, units, info, stateset, gauge histogram
  /protobuf     native histograms: integer, float, gauge, with reset, coming and going
  /classic      a classic histogram, to be scraped as one with custom buckets
  /utf8         names that only Prometheus 3 takes
  /steady       a few series; the server of this page is meant to be stopped mid-way
  /bulk         as many counters as the exporter was asked for, where the work counts and not the content

Run by hand for a look: exporter.py [PORT]
"""

import math
import random
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from wire import delimited, put_bytes, put_double, put_varint, put_zigzag

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PROTOBUF = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"

SPECIAL_VALUES = {
    "nan": "NaN",
    "positive_infinity": "+Inf",
    "negative_infinity": "-Inf",
    "negative_zero": "-0",
    "smallest_subnormal": "5e-324",
    "subnormal": "1.1e-310",
    "smallest_normal": "2.2250738585072014e-308",
    "largest": "1.7976931348623157e+308",
    "most_negative": "-1.7976931348623157e+308",
    "a_tenth": "0.1",
    "third": "0.3333333333333333",
    "beyond_2_to_53": "9007199254740994",
}

VANISHING_SLOTS = 5
PAGES = ("text", "openmetrics", "protobuf", "classic", "utf8", "steady", "bulk")


def there(scrape, slot=0):
    """Whether a vanishing series is there: three scrapes on, two off, each slot out of step."""
    return (scrape + slot) % 5 < 3


def random_float(rng):
    """Any finite float, each bit pattern as likely as another."""
    while True:
        value = math.ldexp(rng.uniform(-1, 1), rng.randrange(-1073, 1024))
        if math.isfinite(value):
            return value


class Pages:
    """The pages of one exporter; `created` is the start of all its counters, in seconds, and `bulk_series` the
    length of the bulk page."""

    def __init__(self, seed=1, bulk_series=500):
        self.bulk_series = bulk_series
        self.created = math.floor(time.time() * 1000 - 60_000) / 1000
        self.rng = random.Random(seed)

    def text(self, scrape):
        lines = [
            "# HELP test_requests_total Requests, with \\\\ and a\\nnew line.",
            "# TYPE test_requests_total counter",
        ]
        for code in ("200", "404", "500"):
            lines.append(f'test_requests_total{{code="{code}",path="/a"}} {scrape * int(code)}')
        lines += ["# HELP test_special Floats with special bits.", "# TYPE test_special gauge"]
        for kind, value in SPECIAL_VALUES.items():
            lines.append(f'test_special{{kind="{kind}"}} {value}')
        values = list(SPECIAL_VALUES.values())
        lines.append(f"test_special_in_turn {values[scrape % len(values)]}")
        lines += ["# TYPE test_random gauge"]
        for n in range(10):
            lines.append(f'test_random{{n="{n}"}} {random_float(self.rng)!r}')
        lines += ["# TYPE test_vanishing gauge"]
        for slot in range(VANISHING_SLOTS):
            if there(scrape, slot):
                lines.append(f'test_vanishing{{slot="{slot}"}} {scrape}')
        # Churn: a series of one sample and its stale marker.
        lines.append(f'test_short_lived{{scrape="{scrape}"}} 1')
        lines += [
            "# TYPE test_labels gauge",
            'test_labels{text="quote \\" backslash \\\\ newline \\n end"} 1',
            'test_labels{text="žluťoučký kůň, 水門, 🌊"} 2',
            f'test_labels{{text="{"x" * 4000}"}} 3',
            'test_labels{empty="",text="an empty label is no label"} 4',
            "# Explicit timestamps: Prometheus writes no stale marker for such a series.",
            f"test_explicit_timestamp {scrape} {int(time.time() * 1000)}",
            "# TYPE test_summary summary",
            f'test_summary{{quantile="0.5"}} {scrape / 7!r}',
            'test_summary{quantile="0.99"} NaN',
            f"test_summary_sum {scrape * 1.1!r}",
            f"test_summary_count {scrape}",
        ]
        return TEXT, "\n".join(lines).encode() + b"\n"

    def openmetrics(self, scrape):
        now = time.time()
        trace = f"{scrape:032x}"
        lines = [
            "# HELP om_requests Requests with exemplars.",
            "# TYPE om_requests counter",
            f'om_requests_total{{path="/a"}} {scrape} # {{trace_id="{trace}"}} {scrape / 3!r} {now:.3f}',
            f'om_requests_created{{path="/a"}} {self.created:.3f}',
            # An exemplar without a timestamp is given the scrape's.
            f'om_requests_total{{path="/b"}} {2 * scrape} # {{trace_id="{trace}",span_id="b"}} 1',
            f'om_requests_created{{path="/b"}} {self.created:.3f}',
            "# HELP om_duration_seconds A classic histogram with a unit.",
            "# TYPE om_duration_seconds histogram",
            "# UNIT om_duration_seconds seconds",
        ]
        for le, share in (("0.1", 1), ("1.0", 2), ("+Inf", 3)):
            lines.append(
                f'om_duration_seconds_bucket{{le="{le}"}} {share * scrape}'
                f' # {{trace_id="{trace}",le="{le}"}} {0.05 * share!r} {now:.3f}'
            )
        lines += [
            f"om_duration_seconds_count {3 * scrape}",
            f"om_duration_seconds_sum {scrape * 0.7!r}",
            f"om_duration_seconds_created {self.created:.3f}",
            "# TYPE om_build info",
            'om_build_info{version="1.2.3"} 1',
            "# TYPE om_state stateset",
            f'om_state{{om_state="open"}} {scrape % 2}',
            f'om_state{{om_state="shut"}} {1 - scrape % 2}',
            "# HELP om_size_bytes Sizes.",
            "# TYPE om_size_bytes gaugehistogram",
            "# UNIT om_size_bytes bytes",
            f'om_size_bytes_bucket{{le="10.0"}} {scrape % 3}',
            f'om_size_bytes_bucket{{le="+Inf"}} {scrape % 3 + 1}',
            f"om_size_bytes_gcount {scrape % 3 + 1}",
            f"om_size_bytes_gsum {scrape % 5}",
            "# TYPE om_anything unknown",
            f"om_anything {scrape}",
            "# EOF",
        ]
        return OPENMETRICS, "\n".join(lines).encode() + b"\n"

    def classic(self, scrape):
        lines = [
            "# HELP custom_buckets_seconds A histogram of custom buckets.",
            "# TYPE custom_buckets_seconds histogram",
        ]
        for shard in ("a", "b"):
            if shard == "b" and not there(scrape):
                continue
            for le, share in (("0.005", 1), ("0.25", 1), ("1", 4), ("10", 9), ("+Inf", 10)):
                lines.append(f'custom_buckets_seconds_bucket{{shard="{shard}",le="{le}"}} {share * scrape}')
            lines.append(f'custom_buckets_seconds_count{{shard="{shard}"}} {10 * scrape}')
            lines.append(f'custom_buckets_seconds_sum{{shard="{shard}"}} {scrape * 3.3!r}')
        return TEXT, "\n".join(lines).encode() + b"\n"

    def steady(self, scrape):
        lines = ["# TYPE steady_total counter"]
        lines += [f'steady_total{{n="{n}"}} {scrape * n}' for n in range(20)]
        return TEXT, "\n".join(lines).encode() + b"\n"

    def bulk(self, scrape):
        lines = ["# TYPE test_bulk_total counter"]
        lines += [
            f'test_bulk_total{{pod="pod-{n // 20}",container="main",path="/p/{n % 20}"}} {scrape * (n % 7 + 1)}'
            for n in range(self.bulk_series)
        ]
        return TEXT, "\n".join(lines).encode() + b"\n"

    def protobuf(self, scrape):
        families = [
            family("native_duration_seconds", 4, "seconds", "Observed durations.", [
                metric({"kind": "integer"}, integer_histogram(scrape, self.created)),
                # Half the observations are gone: Prometheus must see a counter reset.
                metric({"kind": "reset"}, integer_histogram(scrape % 8 + 1, self.created)),
            ] + ([metric({"kind": "vanishing"}, integer_histogram(scrape, self.created))] if there(scrape) else [])),
            family("native_share_ratio", 4, "ratio", "A float histogram.", [
                metric({"kind": "float"}, float_histogram(scrape, self.created)),
                metric({"kind": "odd_sum"}, float_histogram(scrape, self.created, (math.nan, math.inf)[scrape % 2])),
            ]),
            family("native_queue_bytes", 5, "bytes", "A gauge histogram.", [
                metric({"kind": "gauge"}, integer_histogram(scrape % 5 + 1, None)),
            ]),
            family("native_with_classic_seconds", 4, "seconds", "Native and classic buckets in one.", [
                metric({}, integer_histogram(scrape, self.created) + classic_buckets(scrape)),
            ]),
            family("proto_requests_total", 0, "", "A counter with a start.", [
                counter({"path": "/é"}, scrape * 1.5, self.created, f"{scrape:032x}"),
            ]),
        ]
        return PROTOBUF, b"".join(map(delimited, families))

    def utf8(self, scrape):
        gauge = put_bytes(1, label("http.status", "2xx")) + put_bytes(2, put_double(1, scrape))
        families = [
            family("proto.utf8.gauge", 1, "", "A name only UTF-8 allows.", [gauge]),
            family("průtok", 1, "", "Another.", [put_bytes(2, put_double(1, scrape))]),
        ]
        return PROTOBUF, b"".join(map(delimited, families))


# --- messages of io.prometheus.client ------------------------------------------------


def family(name, kind, unit, help_text, metrics):
    body = put_bytes(1, name) + put_bytes(2, help_text) + put_varint(3, kind)
    body += b"".join(put_bytes(4, m) for m in metrics)
    return body + (put_bytes(5, unit) if unit else b"")


def label(name, value):
    return put_bytes(1, name) + put_bytes(2, value)


def metric(labels, histogram):
    return b"".join(put_bytes(1, label(n, v)) for n, v in labels.items()) + put_bytes(7, histogram)


def timestamp(seconds):
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    return put_varint(1, whole) + put_varint(2, milliseconds * 1_000_000)


def exemplar(trace_id, value, seconds):
    return put_bytes(1, label("trace_id", trace_id)) + put_double(2, value) + put_bytes(3, timestamp(seconds))


def counter(labels, value, created, trace_id):
    body = put_double(1, value) + put_bytes(2, exemplar(trace_id, value, time.time()))
    body += put_bytes(3, timestamp(created))
    return b"".join(put_bytes(1, label(n, v)) for n, v in labels.items()) + put_bytes(3, body)


def span(offset, length):
    return put_zigzag(1, offset) + put_varint(2, length)


def integer_histogram(scrape, created):
    """Buckets join as scrapes go on, so that chunks have to be recoded; two sides and zero."""
    width = min(scrape, 12)
    positive = [scrape + i for i in range(width)]
    negative = [scrape, 2 * scrape]
    body = put_varint(1, sum(positive) + sum(negative) + scrape) + put_double(2, scrape * 0.1)
    body += put_zigzag(5, 3) + put_double(6, 1e-128) + put_varint(7, scrape)
    body += put_bytes(9, span(-4, 1)) + put_bytes(9, span(3, 1))
    body += deltas(10, negative)
    if width > 2:
        body += put_bytes(12, span(-1, 2)) + put_bytes(12, span(5, width - 2))
    else:
        body += put_bytes(12, span(-1, width))
    body += deltas(13, positive)
    body += put_bytes(16, exemplar(f"{scrape:016x}", 0.25, time.time()))
    if created is not None:
        body += put_bytes(15, timestamp(created))
    return body


def deltas(number, counts):
    before = [0] + counts[:-1]
    return b"".join(put_zigzag(number, now - then) for now, then in zip(counts, before))


def float_histogram(scrape, created, total=None):
    counts = [scrape / 3, scrape * 0.1, scrape * 1e-9]
    body = put_double(4, sum(counts) + scrape / 7) + put_double(2, scrape / 9 if total is None else total)
    body += put_zigzag(5, -2) + put_double(6, 0.001) + put_double(8, scrape / 7)
    body += put_bytes(12, span(0, 1)) + put_bytes(12, span(2, 2))
    body += b"".join(put_double(14, count) for count in counts)
    return body + put_bytes(15, timestamp(created))


def classic_buckets(scrape):
    bounds = ((0.1, scrape), (1.0, 2 * scrape), (math.inf, 3 * scrape))
    return b"".join(put_bytes(3, put_varint(1, count) + put_double(2, bound)) for bound, count in bounds)


# --- the server ----------------------------------------------------------------------


class Exporter:
    """Serves `pages` on a free port and counts the scrapes of each."""

    def __init__(self, port=0, pages=None):
        self.pages = pages or Pages()
        self.scrapes = {}
        self.changed = threading.Condition()
        exporter = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                exporter.answer(self)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.server.daemon_threads = True
        self.address = "127.0.0.1:%d" % self.server.server_port
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()

    def answer(self, request):
        name = request.path.lstrip("/")
        if name not in PAGES:
            request.send_error(404)
            return
        with self.changed:
            # One scrape at a time, in order: the pages' random numbers depend on it.
            self.scrapes[name] = scrape = self.scrapes.get(name, 0) + 1
            content_type, body = getattr(self.pages, name)(scrape)
            self.changed.notify_all()
        request.send_response(200)
        request.send_header("Content-Type", content_type)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def wait_scrapes(self, name, count, seconds):
        """Until page `name` was scraped `count` times in all."""
        with self.changed:
            if not self.changed.wait_for(lambda: self.scrapes.get(name, 0) >= count, seconds):
                raise TimeoutError(f"{self.scrapes.get(name, 0)} of {count} scrapes of /{name} in {seconds} s")

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


if __name__ == "__main__":
    exporter = Exporter(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    print(f"exporter on {exporter.address}: /{' /'.join(PAGES)}", flush=True)
    try:
        exporter.thread.join()
    except KeyboardInterrupt:
        exporter.stop()
