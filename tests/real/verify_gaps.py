#!/usr/bin/env python3
"""`sluicegate verify` between real programs: a Prometheus of each version, through the proxy, into both versions
and VictoriaMetrics. While all is well it finds no gap, by samples and by counts; after some seconds in which the
sender sent nowhere it names them, with the very numbers that the stores' own contents give."""

import time

import programs
from scenario import Different, main
from sender import Sender
from verified import GAP, NO_HISTOGRAMS, insist_no_gap, insist_same_as_stores, lacking, seconds, settle, verify, window

FEATURES = ("native-histograms",)
HOLE_SECONDS = 6
# Random bit patterns side by side: VictoriaMetrics keeps what the largest of them leaves.
ROUNDED = '{__name__!~"test_random|test_special_in_turn"}'


def scenario(folder):
    receivers = {"3.14": programs.Prometheus(programs.NEWEST, "receiver-new", folder, FEATURES, receiver=True).start()}
    receivers["2.42"] = programs.Prometheus(programs.DEBIAN, "receiver-old", folder, FEATURES, receiver=True).start()
    receivers["VictoriaMetrics"] = programs.victoriametrics(folder)
    told = []
    for binary, version in ((programs.DEBIAN, "2.42"), (programs.NEWEST, "3.14")):
        told.append(one_sender(folder, binary, version, receivers))
    return "; ".join(told)


def one_sender(folder, binary, version, receivers):
    upstreams = [
        part
        for name, receiver in receivers.items()
        for part in ("--upstream", f"{name.replace('.', '-').lower()}={receiver.url}/api/v1/write")
    ]
    # The first --upstream is the helper's own argument.
    proxy = programs.Sluicegate(folder, upstreams[1], *upstreams[2:], "--batch-send-deadline", "300ms", name=f"proxy-{version}")
    proxy.start()
    sender = Sender(folder, binary, FEATURES)
    settings = {
        "pages": ("text", "protobuf"),
        "remote_write": {"send_native_histograms": True, "name": "main"},
        "queue": {"batch_send_deadline": "300ms"},
    }
    sender.start(proxy.write_url, **settings)
    page = "text"
    begun = time.time()
    sender.exporter.wait_scrapes(page, 10, 30)
    sender.insist_all_up()
    # Nothing is sent anywhere for a while. What is in the queue goes out before.
    off = time.time()
    sender.prometheus.reload(sender.config(None, scraping=True, **{k: v for k, v in settings.items() if k == "pages"}))
    off_done = time.time()
    sender.exporter.wait_scrapes(page, sender.exporter.scrapes[page] + HOLE_SECONDS, 30)
    on = time.time()
    sender.prometheus.reload(sender.config(proxy.write_url, scraping=True, **settings))
    on_done = time.time()
    sender.exporter.wait_scrapes(page, sender.exporter.scrapes[page] + 8, 30)
    end = time.time()
    settle(2)
    proxy.wait_empty()

    compared = 0
    for name, receiver in receivers.items():
        rounded = ("--match", ROUNDED) if name == "VictoriaMetrics" else ()
        for mode in ("samples", "counts"):
            # Both sides of the hole.
            for what, span in (("before", window(begun + 2, off - 1)), ("after", window(on_done + 2, end - 1))):
                title = f"{version} to {name}, {mode}, {what} the hole"
                compared += insist_no_gap(sender.prometheus, receiver, title, *span, "--mode", mode, *rounded)
            title = f"{version} to {name}, {mode}"
            status, report = verify(sender.prometheus, receiver, *window(begun + 2, end - 1), "--mode", mode, *rounded)
            insist_hole(status, report, (off, off_done), (on, on_done), title)
            if name != "VictoriaMetrics":
                span = begun + 2, end - 1
                _, floats = verify(sender.prometheus, receiver, *window(*span), "--mode", mode, "--match", NO_HISTOGRAMS)
                insist_same_as_stores(floats, lacking(sender.prometheus, receiver, *span), title)
                if report["missing"]["samples"] <= floats["missing"]["samples"]:
                    raise Different(f"{title}: no native histogram is missing")
            missing = report["missing"]
    sender.stop()
    sender.exporter.stop()
    sender.doomed.stop()
    sender.node_exporter.stop()
    proxy.stop()
    return f"{version}: {compared} samples without a gap, then {missing['samples']} of {missing['series']} series named missing"


def insist_hole(status, report, off, on, title):
    if status != GAP or report["verdict"] != "gaps":
        raise Different(f"{title}: {report['verdict']}")
    events = [event for event in report["events"] if event["kind"] == "missing"]
    if len(events) != len(report["events"]):
        raise Different(f"{title}: not only losses: {report['events']}")
    largest = max(events, key=lambda event: event["samples"])
    first, last = seconds(largest["first"]), seconds(largest["last"])
    # A scrape's samples have the time of its beginning, and intervals are of a second.
    if not (off[0] - 1.5 <= first <= off[1] + 1.5 and on[0] - 1.5 <= last <= on[1] + 0.5):
        raise Different(f"{title}: the hole is {off[0]:.3f} to {on[1]:.3f}, verify says {first:.3f} to {last:.3f}")
    if largest["samples"] * 10 < report["missing"]["samples"] * 9:
        raise Different(f"{title}: one cause, and these events: {[(e['first'], e['last'], e['samples']) for e in events]}")


main(scenario)
