"""What the scenarios share: a folder for each, the run of a sender, the verdict.

A scenario is a function of one argument, its folder. It passes by returning, fails by any
exception, and is skipped by `Missing`. The exit status says which: 0, 1, 77. The last line printed
is the reason for a failure or a skip, or what was compared.
"""

import copy
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback

import programs
import stores
from exporter import Exporter
from programs import Missing, total, wait_until
from stores import STALE_BITS, compare

PASSED, FAILED, SKIPPED = 0, 1, 77


def told_to_stop(*_):
    """As an exception, so that what was started is ended."""
    raise TimeoutError("the whole scenario took too long")


class Different(Exception):
    """The receiver does not hold what the sender does."""


def main(scenario):
    name = os.path.splitext(os.path.basename(sys.argv[0]))[0]
    base = os.environ.get("SLUICEGATE_TEST_LOGS") or tempfile.mkdtemp(prefix="sluicegate-real-")
    folder = os.path.join(base, name)
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    started = time.monotonic()
    signal.signal(signal.SIGTERM, told_to_stop)
    try:
        told = scenario(folder)
        status = PASSED
    except Missing as missing:
        told, status = str(missing), SKIPPED
    except Exception as error:
        with open(os.path.join(folder, "failure.txt"), "w") as file:
            traceback.print_exc(file=file)
        told, status = f"{type(error).__name__}: {error}; logs in {folder}", FAILED
    programs.end_all()
    if status == FAILED:
        programs.remove_data(folder)
    else:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{told} [{time.monotonic() - started:.0f} s]")
    sys.exit(status)


# --- the sender's run ----------------------------------------------------------------

SCRAPES = int(os.environ.get("SLUICEGATE_TEST_SCRAPES", "18"))

GLOBAL = {
    "scrape_interval": "1s",
    "scrape_timeout": "900ms",
    "external_labels": {"cluster": "test", "prometheus_replica": "a"},
}


class Sender:
    """A Prometheus that scrapes the given pages, itself and node-exporter once a second and writes
    to `write_url`."""

    def __init__(self, folder, binary=programs.DEBIAN, features=(), node_exporter=True, receiver=False):
        self.prometheus = programs.Prometheus(binary, "sender", folder, features, receiver)
        self.node_exporter = programs.node_exporter(folder) if node_exporter else None
        self.exporter = Exporter()
        # Its target is taken away in the middle: all of its series get a stale marker.
        self.doomed = Exporter()

    def config(self, write_url, scraping, remote_write=None, scrape_defaults=None, pages=("text",), queue=None):
        config = {"global": GLOBAL}
        if write_url:
            config["remote_write"] = [{
                "url": write_url,
                "queue_config": {
                    "batch_send_deadline": "1s",
                    "max_samples_per_send": 1000,
                    "capacity": 5000,
                    **(queue or {}),
                },
                **(remote_write or {}),
            }]
        targets = {page: (self.exporter.address, "/" + page) for page in pages}
        targets["steady"] = (self.doomed.address, "/steady")
        targets["sender"] = (self.prometheus.url[7:], "/metrics")
        if self.node_exporter:
            targets["node"] = (self.node_exporter.url[7:], "/metrics")
        # Without scraping the jobs stay and their targets go: only so does Prometheus end the series
        # with stale markers; a job that is taken away as a whole ends without.
        config["scrape_configs"] = [
            {
                "job_name": job,
                "metrics_path": path,
                "static_configs": [{"targets": [address] if scraping else []}],
                **(scrape_defaults or {}),
                **({"convert_classic_histograms_to_nhcb": True} if job == "classic" else {}),
            }
            for job, (address, path) in targets.items()
        ]
        return config

    def start(self, write_url, **config):
        self.settings = dict(config, write_url=write_url)
        # The queue sends only what is scraped after it began: so it begins first.
        self.prometheus.start(self.config(scraping=False, **self.settings))
        if write_url:
            wait_until("the sender's queue runs", self.queue_runs, 10)
        self.prometheus.reload(self.config(scraping=True, **self.settings))

    def queue_runs(self):
        return any(n == "prometheus_wal_watcher_current_segment" for n, _, _ in self.prometheus.metrics())

    def wait_scrapes(self, count):
        page = self.settings.get("pages", ("text",))[0]
        self.exporter.wait_scrapes(page, count, count + 20)

    def insist_all_up(self):
        """A target that Prometheus refuses would go unnoticed: its series would be lacking on both sides."""
        targets = json.loads(stores.get(self.prometheus.url + "/api/v1/targets"))["data"]["activeTargets"]
        down = [f"{t['scrapePool']}: {t['lastError']}" for t in targets if t["health"] != "up"]
        if down:
            raise RuntimeError("targets down: " + "; ".join(down))

    def scrape_all(self, scrapes=SCRAPES, halfway=lambda: None):
        """The whole run: half-way a target goes; at the end all do, and every series gets its marker."""
        self.wait_scrapes(scrapes // 2)
        self.insist_all_up()
        halfway()
        self.doomed.stop()
        self.wait_scrapes(scrapes)
        self.end_scraping()

    def end_scraping(self):
        self.prometheus.reload(self.config(scraping=False, **self.settings))
        # Prometheus writes these markers two intervals after the targets have gone.
        wait_until(
            "the stale markers of all series",
            lambda: not self.prometheus.query('count({job!="",__name__!="test_explicit_timestamp"})'),
            15,
        )

    def wait_enqueued(self):
        """Until the queue has all that storage has; the queue may still hold it."""
        wait_until("the sender's queue has read the whole log", lambda: self.unsent()[0] <= 0, 20)

    def wait_sent(self):
        wait_until("the sender has sent everything", lambda: sum(self.unsent()) <= 0, 30)

    def unsent(self):
        """(not yet with the queue, with the queue): of all that storage took since the start and that is to be sent."""
        remote_write = self.settings.get("remote_write", {})
        kinds = {
            "samples": True,
            "exemplars": remote_write.get("send_exemplars"),
            "histograms": remote_write.get("send_native_histograms"),
        }
        metrics = self.prometheus.metrics()
        behind = waiting = 0
        for kind in (kind for kind, sent in kinds.items() if sent):
            count = {
                what: total(metrics, f"prometheus_remote_storage_{kind}_{what}")
                for what in ("in_total", "total", "retried_total", "dropped_total", "pending")
            }
            attempted = count["total"] - count["retried_total"]
            behind += count["in_total"] - count["dropped_total"] - attempted - count["pending"]
            waiting += count["pending"]
        return behind, waiting

    def failed(self):
        metrics = self.prometheus.metrics()
        return sum(
            total(metrics, f"prometheus_remote_storage_{kind}_failed_total")
            for kind in ("samples", "histograms", "exemplars")
        )

    def stop(self):
        """SIGTERM: the queue's last flush is part of it. Must not lose what it holds."""
        self.prometheus.stop()


def read_stopped(prometheus):
    """All that a Prometheus, stopped by now, ever stored. Where there is the newest Prometheus it opens the
    data: 2.42 leaves histograms out of a remote read. The process is left running for further questions."""
    try:
        programs.find(programs.NEWEST)
        prometheus.command[0] = programs.find(programs.NEWEST)
    except Missing:
        pass
    prometheus.start({"global": GLOBAL} if prometheus.name == "sender" else {})
    return stores.read_prometheus(prometheus.url)


# --- the verdict ---------------------------------------------------------------------


def insist(differences, what):
    if differences:
        shown = "; ".join(differences[:5])
        raise Different(f"{len(differences)} differences in {what}: {shown}")


def with_external_labels(content):
    """The log holds series as they are scraped; external labels join them on the way out."""
    external = GLOBAL["external_labels"].items()
    return {tuple(sorted({**dict(external), **dict(labels)}.items())): entry for labels, entry in content.items()}


def compare_entries(sent, stored, what):
    """Exemplars or metadata of each series; insists that they are the same, and that it could tell."""
    if not sent:
        raise Different(f"the sender has no {what}")
    insist(entry_differences(sent, stored), what)
    one = min(stored)
    lacking = {labels: entry for labels, entry in stored.items() if labels != one}
    if not entry_differences(sent, lacking) or not entry_differences(sent, {**stored, one: None}):
        raise Different(f"the comparison of {what} did not notice a loss")


def entry_differences(sent, stored):
    differences = stores.compare_series(sent, stored)
    for labels in sent.keys() & stored.keys():
        if sent[labels] != stored[labels]:
            differences.append(f"{stores.show(labels)}: sender {sent[labels]}, receiver {stored[labels]}")
    return differences


def insist_holds(counts, *kinds):
    """A comparison of two empty stores would pass: what was compared must be there."""
    lacking = [kind for kind in kinds if not counts[kind]]
    if lacking:
        raise Different(f"the sender stored no {', no '.join(lacking)}: {counts}")


def summary(counts):
    return ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)


def insist_comparison_can_fail(sender, receiver, comparison=compare):
    """Spoils the receiver's content in small ways, each of which the comparison must see."""
    spoils = [lose_series, lose_stale_marker, move_sample, change_sample, invent_series]
    if any(isinstance(v, stores.Histogram) for s in receiver.values() for _, v in samples_of(s)):
        spoils.append(change_histogram)
    for spoil in spoils:
        spoiled = {labels: copy.copy(samples) for labels, samples in receiver.items()}
        spoil(spoiled)
        if not comparison(sender, spoiled):
            raise Different(f"the comparison did not notice {spoil.__name__}")


def some_series(store, wanted):
    """The first series that has a sample for which `wanted`, with that sample's timestamp."""
    for labels in sorted(store):
        for timestamp, value in samples_of(store[labels]):
            if wanted(value):
                return labels, timestamp
    raise Different("no sample to spoil")


def samples_of(samples):
    return samples.items() if isinstance(samples, dict) else samples


def set_sample(store, labels, timestamp, value):
    """Replaces a sample, or removes it where `value` is a function of the timestamp to move it to."""
    if isinstance(store[labels], dict):
        del store[labels][timestamp]
        store[labels].update(value)
    else:
        kept = [s for s in store[labels] if s[0] != timestamp]
        store[labels] = sorted(kept + list(value.items()), key=lambda sample: sample[0])


def lose_series(store):
    del store[min(store)]


def invent_series(store):
    labels = min(store)
    store[labels + (("zz", "invented"),)] = store[labels]


def lose_stale_marker(store):
    labels, timestamp = some_series(store, lambda v: v is None or v == STALE_BITS)
    set_sample(store, labels, timestamp, {})


def move_sample(store):
    labels, timestamp = some_series(store, lambda v: True)
    value = dict(samples_of(store[labels]))[timestamp]
    set_sample(store, labels, timestamp, {timestamp + 1: value})


def change_sample(store):
    """The smallest change: one bit of a float; for a store that rounds, one part in 10^9."""
    labels, timestamp = some_series(store, lambda v: v not in (None, STALE_BITS, 0, 0.0) and abs_finite(v))
    value = dict(samples_of(store[labels]))[timestamp]
    set_sample(store, labels, timestamp, {timestamp: value ^ 1 if isinstance(value, int) else value * (1 + 1e-9)})


def change_histogram(store):
    """One bucket counts one more, or the least bit more."""
    labels, timestamp = some_series(store, lambda v: isinstance(v, stores.Histogram) and v.positive)
    histogram = store[labels][timestamp]
    (index, count), *others = histogram.positive
    store[labels][timestamp] = histogram._replace(positive=((index, count + 1), *others))


def abs_finite(value):
    return isinstance(value, int) or (isinstance(value, float) and 1e-100 < abs(value) < 1e300)
