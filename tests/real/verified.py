"""`sluicegate verify` as a scenario calls it, and its result held against what the stores themselves hold."""

import datetime
import json
import subprocess
import time

import programs
import stores
from scenario import Different, with_external_labels

GAP, NO_GAP = 1, 0


def verify(sender, receiver, *flags):
    """Runs it; returns its exit status and its report."""
    command = [
        programs.find_sluicegate(), "verify",
        "--from", sender.url, "--to", receiver.url, "-o", "json", *flags,
    ]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if ended.returncode not in (NO_GAP, GAP) or not ended.stdout:
        raise RuntimeError(f"verify ended with {ended.returncode}: {ended.stderr.strip()[:500]}")
    return ended.returncode, json.loads(ended.stdout)


def window(begin, end):
    """The flags for a window between two moments, in whole seconds."""
    return "--window", f"{int(end) - int(begin)}s", "--end", str(int(end))


def insist_no_gap(sender, receiver, what, *flags):
    """Returns how many samples were compared."""
    status, report = verify(sender, receiver, *flags)
    if status != NO_GAP or report["verdict"] != "no_gap":
        events = [(e["kind"], e["first"], e["last"], e["series"], e["samples"], e["worst"][0]) for e in report["events"]]
        raise Different(f"{what}: {report['verdict']}, {events[:3]} {report['not_compared'][:3]} {report['hints']}")
    if not report["compared"]["samples"]:
        raise Different(f"{what}: nothing was compared")
    return report["compared"]["samples"]


def seconds(utc):
    """A report's time as seconds since 1970."""
    return datetime.datetime.fromisoformat(utc.replace("Z", "+00:00")).timestamp()


# 2.42 leaves native histograms out of a remote read, though not of a query.
NO_HISTOGRAMS = '{__name__!~"native_.+"}'


def lacking(sender, receiver, begin, end):
    """What the receiver lacks by its own storage, in that window: {(labels, timestamp ms)}. Stale markers are
    left out, as no query shows them, and so are native histograms: this is what NO_HISTOGRAMS selects."""
    sent, stored = with_external_labels(stores.read_prometheus(sender.url)), stores.read_prometheus(receiver.url)
    return {
        (labels, timestamp)
        for labels, samples in sent.items()
        for timestamp, value in samples.items()
        if int(begin) * 1000 < timestamp <= int(end) * 1000
        and not stores.is_stale(value)
        and not dict(labels)["__name__"].startswith("native_")
        and timestamp not in stored.get(labels, {})
    }


def insist_same_as_stores(report, lost, what):
    """The report names what the stores' own contents say is lost: how much, of how many series, from when to when."""
    series = {labels for labels, _ in lost}
    found = (report["missing"]["samples"], report["missing"]["series"])
    if found != (len(lost), len(series)):
        raise Different(f"{what}: verify says {found} samples and series are missing, the stores {len(lost), len(series)}")
    missing = [event for event in report["events"] if event["kind"] == "missing"]
    first = min(seconds(event["first"]) for event in missing)
    last = max(seconds(event["last"]) for event in missing)
    truth = min(t for _, t in lost) / 1000, max(t for _, t in lost) / 1000
    if (round(first, 3), round(last, 3)) != truth:
        raise Different(f"{what}: verify says the gap is {first} to {last}, the stores {truth}")


def settle(seconds_to_wait):
    """Until a moment is so long ago that everything of it has arrived."""
    until = time.time() + seconds_to_wait
    programs.wait_until("the window has settled", lambda: time.time() >= until, seconds_to_wait + 5)
