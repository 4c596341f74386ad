"""What the scenarios share: a folder for each and the verdict.

A scenario is a function of one argument, its folder. It passes by returning, fails by any
exception, and is skipped by `Missing`. The exit status says which: 0, 1, 77. The last line printed
is the reason for a failure or a skip, or what was compared.
"""

import os
import shutil
import signal
import sys
import tempfile
import time
import traceback

import programs
import stores
from programs import Missing
from sender import GLOBAL
from spoil import spoiled, ways_to_spoil

PASSED, FAILED, SKIPPED = 0, 1, 77


def told_to_stop(*_):
    """As an exception, so that what was started is ended."""
    raise TimeoutError("the whole scenario took too long")


class Different(Exception):
    """The receiver does not hold what the sender does."""


def main(scenario):
    name = os.path.splitext(os.path.basename(sys.argv[0]))[0]
    base = os.environ.get("SLUICEGATE_TEST_LOGS") or tempfile.mkdtemp(prefix="sluicegate-real-")
    folder = os.path.join(base, name)
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    started = time.monotonic()
    signal.signal(signal.SIGTERM, told_to_stop)
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


# --- the verdict ---------------------------------------------------------------------


def insist(differences, what):
    if differences:
        shown = "; ".join(differences[:5])
        raise Different(f"{len(differences)} differences in {what}: {shown}")


def with_external_labels(content):
    """The log holds series as they are scraped; external labels join them on the way out."""
    external = GLOBAL["external_labels"].items()
    return {tuple(sorted({**dict(external), **dict(labels)}.items())): entry for labels, entry in content.items()}


def compare_entries(sent, stored, what):
    """Exemplars or metadata of each series; insists that they are the same, and that it could tell."""
    if not sent:
        raise Different(f"the sender has no {what}")
    insist(entry_differences(sent, stored), what)
    one = min(stored)
    lacking = {labels: entry for labels, entry in stored.items() if labels != one}
    if not entry_differences(sent, lacking) or not entry_differences(sent, {**stored, one: None}):
        raise Different(f"the comparison of {what} did not notice a loss")


def entry_differences(sent, stored):
    differences = stores.compare_series(sent, stored)
    for labels in sent.keys() & stored.keys():
        if sent[labels] != stored[labels]:
            differences.append(f"{stores.show(labels)}: sender {sent[labels]}, receiver {stored[labels]}")
    return differences


def insist_holds(counts, *kinds):
    """A comparison of two empty stores would pass: what was compared must be there."""
    lacking = [kind for kind in kinds if not counts[kind]]
    if lacking:
        raise Different(f"the sender stored no {', no '.join(lacking)}: {counts}")


def summary(counts):
    return ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)


def insist_comparison_can_fail(sender, receiver, comparison=stores.compare):
    """A comparison that finds nothing proves something only if it would have found something."""
    for way in ways_to_spoil(receiver):
        if not comparison(sender, spoiled(receiver, way)):
            raise Different(f"the comparison did not notice {way.__name__}")
