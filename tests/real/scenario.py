"""What the scenarios share: a folder for each, the run of a sender, the verdict.

A scenario is a function of one argument, its folder. It passes by returning, fails by any
exception, and is skipped by `Missing`. The exit status says which: 0, 1, 77. The last line printed
is the reason for a failure or a skip, or what was compared.
"""

import copy
import os
import shutil
import sys
import tempfile
import time
import traceback

import programs
import stores
from exporter import Exporter
from programs import DIRECT, Missing, wait_until
from stores import STALE_BITS, census, compare

PASSED, FAILED, SKIPPED = 0, 1, 77


class Different(Exception):
    """The receiver does not hold what the sender does."""


def main(scenario):
    name = os.path.splitext(os.path.basename(sys.argv[0]))[0]
    base = os.environ.get("SLUICEGATE_TEST_LOGS") or tempfile.mkdtemp(prefix="sluicegate-real-")
    folder = os.path.join(base, name)
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    started = time.monotonic()
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

    def __init__(self, folder, binary=programs.DEBIAN, features=(), node_exporter=True):
        self.prometheus = programs.Prometheus(binary, "sender", folder, features)
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

    def scrape_all(self, scrapes=SCRAPES):
        """The whole run: half-way a target goes; at the end all do, and every series gets its marker."""
        self.wait_scrapes(scrapes // 2)
        self.doomed.stop()
        self.wait_scrapes(scrapes)
        self.end_scraping()

    def end_scraping(self):
        self.prometheus.reload(self.config(scraping=False, **self.settings))
        # Prometheus writes these markers two intervals after the targets have gone.
        wait_until(
            "the stale markers of all series",
            lambda: not self.prometheus.query('count({__name__=~".+",__name__!="test_explicit_timestamp"})'),
            15,
        )

    def wait_enqueued(self):
        """Until the queue has all that storage has; the queue may still hold it."""
        wait_until("the sender's queue has read the whole log", lambda: self.prometheus.unsent()[0] <= 0, 20)

    def wait_sent(self):
        wait_until("the sender has sent everything", lambda: sum(self.prometheus.unsent()) <= 0, 30)

    def failed(self):
        metrics = self.prometheus.metrics()
        return sum(
            programs.total(metrics, f"prometheus_remote_storage_{kind}_failed_total")
            for kind in ("samples", "histograms", "exemplars")
        )

    def stop(self):
        """SIGTERM: the queue's last flush is part of it. Must not lose what it holds."""
        self.prometheus.stop()

    def contents(self):
        """All that the sender ever stored; it must have been stopped."""
        self.prometheus.start({"global": GLOBAL})
        return stores.read_prometheus(self.prometheus.url)


# --- the verdict ---------------------------------------------------------------------


def insist(differences, what):
    if differences:
        shown = "; ".join(differences[:5])
        raise Different(f"{len(differences)} differences in {what}: {shown}")


def insist_holds(counts, *kinds):
    """A comparison of two empty stores would pass: what was compared must be there."""
    lacking = [kind for kind in kinds if not counts[kind]]
    if lacking:
        raise Different(f"the sender stored no {', no '.join(lacking)}: {counts}")


def summary(counts):
    return ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)


def insist_comparison_can_fail(sender, receiver, comparison=compare):
    """Spoils the receiver's content in small ways, each of which the comparison must see."""
    for spoil in (lose_series, lose_stale_marker, move_sample, change_sample, invent_series):
        spoiled = copy.deepcopy(receiver)
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


def abs_finite(value):
    return isinstance(value, int) or (isinstance(value, float) and 1e-100 < abs(value) < 1e300)
