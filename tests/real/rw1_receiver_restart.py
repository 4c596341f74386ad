#!/usr/bin/env python3
"""The receiver goes away in the middle of a run and comes back: the sender must not notice more than a
delay, and nothing is lost."""

import programs
import stores
from scenario import SCRAPES, Sender, insist, insist_comparison_can_fail, insist_holds, main, read_stopped, summary


def scenario(folder):
    receiver = programs.Prometheus(programs.DEBIAN, "receiver", folder, receiver=True).start()
    proxy = programs.proxy(folder, receiver.url + "/api/v1/write", "--storage.path", folder + "/proxy-data")
    sender = Sender(folder)
    sender.start(proxy.write_url)
    sender.wait_scrapes(SCRAPES // 4)
    receiver.stop()
    sender.wait_scrapes(SCRAPES * 3 // 4)
    receiver.start()
    sender.doomed.stop()
    sender.wait_scrapes(SCRAPES)
    sender.end_scraping()
    sender.wait_sent()
    failed = sender.failed()
    sender.stop()
    proxy.wait_empty()
    proxy.stop()
    receiver.stop()
    sent, stored = read_stopped(sender.prometheus), read_stopped(receiver)
    insist(stores.compare(sent, stored), "storage")
    if failed:
        raise RuntimeError(f"the sender gave up {failed:.0f} samples")
    counts = stores.census(sent)
    insist_holds(counts, "stale markers")
    insist_comparison_can_fail(sent, stored)
    return f"{summary(counts)}; the receiver was away for half of the run"


main(scenario)
