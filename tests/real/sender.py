"""The sending Prometheus and its targets: the run that the scenarios share."""

import json
import os

import programs
import stores
from exporter import Exporter
from programs import Missing, total, wait_until

SCRAPES = int(os.environ.get("SLUICEGATE_TEST_SCRAPES", "18"))

GLOBAL = {
    "scrape_interval": "1s",
    "scrape_timeout": "900ms",
    "external_labels": {"cluster": "test", "prometheus_replica": "a"},
}


class Sender:
    """A Prometheus that scrapes the given pages, itself and node-exporter once a second and writes
    to `write_url`."""

    def __init__(self, folder, binary=programs.DEBIAN, features=(), receiver=False):
        self.prometheus = programs.Prometheus(binary, "sender", folder, features, receiver)
        self.node_exporter = programs.node_exporter(folder)
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
        targets["sender"] = (self.prometheus.address, "/metrics")
        targets["node"] = (self.node_exporter.address, "/metrics")
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
        """What it gave up."""
        return self.count_of_all_kinds("failed_total")

    def retried(self):
        return self.count_of_all_kinds("retried_total")

    def count_of_all_kinds(self, what):
        metrics = self.prometheus.metrics()
        kinds = ("samples", "histograms", "exemplars")
        return sum(total(metrics, f"prometheus_remote_storage_{kind}_{what}") for kind in kinds)

    def stop(self):
        """SIGTERM: the queue's last flush is part of it. Must not lose what it holds."""
        self.prometheus.stop()


def read_stopped(prometheus):
    """All that a Prometheus, stopped by now, ever stored. Where there is the newest Prometheus it opens the
    data: 2.42 leaves histograms out of a remote read. The process is left running for further questions."""
    try:
        prometheus.command[0] = programs.find(programs.NEWEST)
    except Missing:
        pass
    prometheus.start({"global": GLOBAL} if prometheus.name == "sender" else {})
    return stores.read_prometheus(prometheus.url)
