#!/usr/bin/env python3
"""Sluicegate put between a running Prometheus and its receiver, and taken away again, judged by `sluicegate
verify`: no gap.

A Prometheus whose remote_write entry changes its url starts a new queue, which sends only what is scraped
after its start; the old one flushes what it has and reads no more. A scrape that is under way at that moment
has the time of its beginning, and belongs to neither: Prometheus itself loses it, also when it changes from
one receiver's address to another with nothing between. So the way without loss is to have both entries for
a moment, and then to take the old one away: the receiver gets some samples twice, which are the same. Both
are shown here: with a target that is slow to answer, so that there is always a scrape under way."""

import time

import programs
from exporter import Exporter, Pages
from programs import wait_until
from scenario import Different, main
from sender import GLOBAL
from verified import GAP, insist_no_gap, insist_same_as_stores, lacking, settle, verify, window

SLOW_SECONDS = 0.6
SCRAPES = 4


class SlowPages(Pages):
    def steady(self, scrape):
        time.sleep(SLOW_SECONDS)
        return super().steady(scrape)


class Switching:
    """A Prometheus with targets, whose remote_write entries come and go."""

    def __init__(self, folder, binary, version):
        self.prometheus = programs.Prometheus(binary, f"sender-{version}", folder)
        self.quick, self.slow = Exporter(), Exporter(pages=SlowPages())

    def config(self, *write_urls, jobs=("text", "steady")):
        targets = {"text": self.quick.address, "steady": self.slow.address}
        return {
            "global": GLOBAL,
            "remote_write": [
                {"url": url, "name": name, "queue_config": {"batch_send_deadline": "300ms"}} for name, url in write_urls
            ],
            "scrape_configs": [
                {"job_name": job, "metrics_path": "/" + job, "static_configs": [{"targets": [targets[job]]}]}
                for job in jobs
            ],
        }

    def start(self, *write_urls):
        # The queue sends only what is scraped after it began.
        self.prometheus.start(self.config(*write_urls, jobs=()))
        wait_until("the queue runs", self.runs, 10)
        self.prometheus.reload(self.config(*write_urls))
        return self

    def runs(self):
        return any(n == "prometheus_wal_watcher_current_segment" for n, _, _ in self.prometheus.metrics())

    def go_on(self, scrapes=SCRAPES):
        for exporter, page in ((self.quick, "text"), (self.slow, "steady")):
            exporter.wait_scrapes(page, exporter.scrapes.get(page, 0) + scrapes, 40)

    def lag_zero(self):
        """Nothing scraped waits to be sent, as an operator would see it."""
        def behind():
            metrics = self.prometheus.metrics()
            newest = programs.total(metrics, "prometheus_remote_storage_samples_pending")
            return newest == 0
        wait_until("the sender's queues are empty", behind, 20)

    def change(self, *write_urls):
        self.prometheus.reload(self.config(*write_urls))

    def stop(self):
        self.prometheus.stop()
        self.quick.stop()
        self.slow.stop()


def scenario(folder):
    told = []
    for binary, version in ((programs.DEBIAN, "2.42"), (programs.NEWEST, "3.14")):
        told += [f"{version}: " + both_entries(folder, binary, version), url_changed(folder, binary, version)]
    return "; ".join(told)


def both_entries(folder, binary, version):
    """There and back with an overlap: nothing may be missing."""
    receiver = programs.Prometheus(programs.NEWEST, f"receiver-{version}", folder, receiver=True).start()
    direct = ("direct", receiver.url + "/api/v1/write")
    sender = Switching(folder, binary, version).start(direct)
    begun = time.time()
    sender.go_on()
    proxy = programs.Sluicegate(folder, direct[1], "--batch-send-deadline", "300ms", name=f"proxy-{version}").start()
    gate = ("sluicegate", proxy.write_url)
    sender.change(direct, gate)
    sender.go_on(2)
    sender.lag_zero()
    sender.change(gate)
    sender.go_on()
    through = proxy.total("sluicegate_delivered_samples_total")
    if not through:
        raise Different("nothing went through the proxy")
    # And back: the old way first, then the drain.
    sender.change(gate, direct)
    sender.go_on(2)
    sender.lag_zero()
    sender.change(direct)
    proxy.wait_empty()
    if proxy.stop() != 0:
        raise Different("the proxy did not end well")
    sender.go_on()
    end = time.time()
    settle(2)
    compared = insist_no_gap(sender.prometheus, receiver, f"{version}, there and back", *window(begun + 2, end - 1))
    if lost := lacking(sender.prometheus, receiver, begun + 2, end - 1):
        raise Different(f"verify found no gap, and {len(lost)} samples are missing")
    sender.stop()
    receiver.stop()
    return f"there and back with both entries for a moment, {through:.0f} samples through the proxy, {compared} compared, no gap"


def url_changed(folder, binary, version):
    """The url of the one entry changed, with no proxy in sight: what Prometheus itself loses."""
    receiver = programs.Prometheus(programs.NEWEST, f"receiver-direct-{version}", folder, receiver=True).start()
    sender = Switching(folder, binary, f"direct-{version}").start(("main", receiver.url + "/api/v1/write"))
    begun = time.time()
    sender.go_on()
    sender.lag_zero()
    # In the middle of a scrape of the slow target.
    seen = sender.slow.scrapes["steady"]
    wait_until("a slow scrape begins", lambda: sender.slow.scrapes["steady"] > seen, 5, pause=0.01)
    # Only its spelling is another.
    sender.change(("main", receiver.url.replace("127.0.0.1", "localhost") + "/api/v1/write"))
    sender.go_on()
    end = time.time()
    settle(2)
    span = begun + 2, end - 1
    status, report = verify(sender.prometheus, receiver, *window(*span))
    lost = lacking(sender.prometheus, receiver, *span)
    if (status == GAP) != bool(lost):
        raise Different(f"verify says {report['verdict']}, and {len(lost)} samples are missing")
    if lost:
        insist_same_as_stores(report, lost, "a changed url")
    sender.stop()
    receiver.stop()
    return f"a changed url without any proxy loses {len(lost)} samples of the scrape under way, named by verify"


main(scenario)
