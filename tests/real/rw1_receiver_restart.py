#!/usr/bin/env python3
"""The receiver goes away in the middle of a run and comes back: nothing is lost, and the sender does not
notice."""

import programs
import stores
from programs import DIRECT
from scenario import insist, insist_comparison_can_fail, insist_holds, main, summary
from sender import SCRAPES, Sender, read_stopped


def scenario(folder):
    receiver = programs.Prometheus(programs.DEBIAN, "receiver", folder, receiver=True).start()
    proxy = programs.proxy(folder, receiver.url + "/api/v1/write", *programs.disk_log(folder))
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
    failed, retried = sender.failed(), sender.retried()
    sender.stop()
    proxy.wait_empty()
    proxy.stop()
    proxy.deliver_rest()
    receiver.stop()
    sent, stored = read_stopped(sender.prometheus), read_stopped(receiver)
    insist(stores.compare(sent, stored), "storage")
    if failed:
        raise RuntimeError(f"the sender gave up {failed:.0f} samples")
    if retried and not DIRECT:
        raise RuntimeError(f"the sender had to send {retried:.0f} samples again: the proxy did not take them at once")
    counts = stores.census(sent)
    insist_holds(counts, "stale markers")
    insist_comparison_can_fail(sent, stored)
    return f"{summary(counts)}; the receiver was away for half of the run"


main(scenario)
