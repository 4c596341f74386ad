#!/usr/bin/env python3
"""Prometheus 3.14, RW 1.0 with a tenant header, into Thanos Receive: all of it under that tenant; and a
request with a bad part, of which Thanos stores the good part and answers 409 for the whole.

Debian's Prometheus 2.42 can't be the sender: it takes `headers` in its configuration and does not send them.
"""

import os
import time

import programs
import stores
import wire
from programs import DIRECT, total, wait_until
from scenario import insist, insist_comparison_can_fail, insist_holds, main, summary
from sender import Sender, read_stopped

TENANT = "team-a"
OTHER_TENANT = "team-b"


def scenario(folder):
    receive = programs.ThanosReceive(folder).start()
    proxy = programs.proxy(folder, receive.write_url, *programs.disk_log(folder))
    sender = Sender(folder, programs.NEWEST)
    sender.start(proxy.write_url, remote_write={"headers": {"THANOS-TENANT": TENANT}})
    sender.scrape_all()
    sender.wait_sent()
    sender.stop()
    proxy.wait_empty()
    verdict_wrong = post_with_bad_part(proxy, receive)
    sent = read_stopped(sender.prometheus)
    query_as_tenant(folder, receive, sent)
    proxy.stop()
    proxy.deliver_rest()
    receive.stop()
    stored = read_tenant(folder, receive, TENANT)
    insist(stores.compare(sent, stored), "storage")
    insist_good_part(read_tenant(folder, receive, OTHER_TENANT))
    if verdict_wrong:
        raise RuntimeError(verdict_wrong)
    counts = stores.census(sent)
    insist_holds(counts, "stale markers", "NaNs", "infinities")
    insist_comparison_can_fail(sent, stored)
    return f"{summary(counts)}; one 409, its good part stored"


# --- the request with a bad part -----------------------------------------------------


def bad_part(k):
    return {"__name__": "partly_bad", "k": str(k)}


def post_with_bad_part(proxy, receive):
    """One sample out of order among ten good ones, as a tenant of their own. Returns what was wrong."""
    now = int(time.time() * 1000)
    post(proxy, [(bad_part(0), [(now, wire.bits_of(1.0))])])
    proxy.wait_empty()
    late = [(bad_part(0), [(now - 5000, wire.bits_of(2.0))])]
    good = [(bad_part(k), [(now, wire.bits_of(float(k)))]) for k in range(1, 11)]
    status = post(proxy, late + good)
    proxy.wait_empty()
    refused = total(receive.metrics(), "http_requests_total", 'code="409"', 'handler="receive"')
    # Repeats of the whole or of parts of it would be refused as well, and counted.
    if refused != 1:
        return f"Thanos answered 409 {refused:.0f} times, not once"
    if DIRECT:
        return None if status == 409 else f"Thanos answered {status}, not 409"
    unconfirmed = proxy.total(programs.UNCONFIRMED)
    if unconfirmed != 11:
        return f"{unconfirmed:.0f} samples are counted as unconfirmed, of 11 in a request answered 409"
    return None


def post(proxy, series):
    headers = {**wire.WRITE_HEADERS, "THANOS-TENANT": OTHER_TENANT}
    status, _, _ = stores.http(proxy.write_url, wire.write_request(series), headers)
    return status


def insist_good_part(stored):
    wanted = {tuple(sorted(bad_part(k).items())): wire.bits_of(float(k) if k else 1.0) for k in range(11)}
    found = {labels: bits for labels, samples in stored.items() for bits in samples.values()}
    if found != wanted or any(len(samples) != 1 for samples in stored.values()):
        raise RuntimeError(f"Thanos stored {len(found)} of the 11 series of the good part: {stored}")


# --- what Thanos stored --------------------------------------------------------------


def query_as_tenant(folder, receive, sent):
    """The interface that users have: PromQL over the store, where the tenant is a label."""
    query = programs.ThanosQuery(folder, receive).start()
    wanted = sum(not stores.is_stale(v) for samples in sent.values() for v in samples.values())
    matching = f'{{tenant_id="{TENANT}",receive="test",__name__!=""}}[1h]'

    def all_found():
        return sum(len(series["values"]) for series in query.query(matching)) == wanted

    wait_until(f"thanos query finds {wanted} samples of {TENANT}", all_found, 15, pause=0.5)
    query.stop()


def read_tenant(folder, receive, tenant):
    """A tenant's folder is a Prometheus' own: read bit for bit, with the stale markers that PromQL hides."""
    reader = programs.Prometheus(programs.NEWEST, "reader-" + tenant, folder)
    os.rename(os.path.join(receive.data, tenant), reader.data)
    stored = read_stopped(reader)
    reader.stop()
    return stored


main(scenario)
