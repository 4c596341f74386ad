#!/usr/bin/env python3
"""Debian's Prometheus, RW 1.0, into Debian's VictoriaMetrics: every series and every sample, once, with
all that VictoriaMetrics keeps of a float."""

import programs
import stores
from scenario import insist, insist_comparison_can_fail, insist_holds, main, summary
from sender import Sender, read_stopped


def scenario(folder):
    receiver = programs.victoriametrics(folder)
    proxy = programs.proxy(folder, receiver.url + "/api/v1/write")
    sender = Sender(folder)
    sender.start(proxy.write_url)
    sender.scrape_all()
    sender.wait_sent()
    sender.stop()
    proxy.wait_empty()
    proxy.stop()
    proxy.deliver_rest()
    sent, stored = read_stopped(sender.prometheus), stores.read_victoriametrics(receiver.url)
    insist(stores.compare_with_victoriametrics(sent, stored), "storage")
    counts = stores.census(sent)
    insist_holds(counts, "stale markers", "NaNs", "infinities")
    insist_comparison_can_fail(sent, stored, stores.compare_with_victoriametrics)
    return summary(counts)


main(scenario)
