#!/usr/bin/env python3
"""Debian's Prometheus, RW 1.0, into a second one: every series, sample and bit, also through the end of
both: the sender's last flush arrives while the proxy has been told to stop."""

import programs
import stores
from programs import DIRECT
from scenario import Sender, census, compare, insist, insist_comparison_can_fail, insist_holds, main, summary


def scenario(folder):
    receiver = programs.Prometheus(programs.DEBIAN, "receiver", folder, receiver=True).start()
    proxy = programs.proxy(folder, receiver.url + "/api/v1/write", "--storage.path", folder + "/proxy-data")
    sender = Sender(folder)
    # A deadline this long leaves the last samples, stale markers among them, to the flush.
    sender.start(proxy.write_url, queue={"batch_send_deadline": "10s"})
    sender.scrape_all()
    sender.wait_enqueued()
    _, pending = sender.prometheus.unsent()
    sender.prometheus.terminate()
    proxy.terminate()
    sender.prometheus.wait()
    proxy_status = proxy.wait()
    sent, stored = sender.contents(), stores.read_prometheus(receiver.url)
    insist(compare(sent, stored), "storage")
    if proxy_status != 0:
        raise RuntimeError(f"sluicegate exited with {proxy_status}")
    counts = census(sent)
    insist_holds(counts, "stale markers", "NaNs", "infinities", "subnormals")
    insist_comparison_can_fail(sent, stored)
    return f"{summary(counts)}; {pending:.0f} of them flushed at the end"


main(scenario)
