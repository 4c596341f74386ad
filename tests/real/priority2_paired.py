#!/usr/bin/env python3
"""What a Sluicegate in trouble costs the Prometheus beside it, as pairs in alternation. By hand; run.sh does not run it.

    tests/real/priority2_paired.py [--rounds 3] [--seconds 30] [--prometheus 2.42|3.14] [--state NAME]...
                                  [--larger-requests]

Of each pair one Prometheus sends directly to the receiver and one through Sluicegate, one after the other, with
nothing else running; which of them is first changes from round to round. Both have Prometheus' own queue settings; with
--larger-requests the one that sends through Sluicegate has larger ones. Prints a table: medians over the rounds, and the
ratio of medians. Exit status 1 if a Prometheus was harmed (see beside.harm), 77 if the programs are not here.

    SLUICEGATE_BIN=FILE, SLUICEGATE_TEST_SERIES=N    the binary, and the series of each target (500)
"""

import argparse
import os
import shutil
import signal
import statistics
import sys
import tempfile

import beside
import programs
from beside import LARGER_REQUESTS, STATES, Beside, Receivers, watch
from programs import Missing
from scenario import Different, told_to_stop

VERSIONS = {"2.42": programs.DEBIAN, "3.14": programs.NEWEST}
MEASURES = ("ready", "rss", "cpu", "lag")


def one(folder, binary, name, write_url=None, queue=None, seconds=30):
    """A run of one Prometheus, from its start."""
    prometheus = Beside(folder, binary, name, write_url, queue).start()
    prometheus.exporter.wait_scrapes("bulk", 6, 30)
    [seen] = watch([prometheus], seconds)
    prometheus.end()
    return seen


def pairs(folder, binary, state, rounds, seconds, queue):
    """[(directly, through)], and what the state was found to be."""
    receivers = Receivers(folder)
    gate, insist_state = state.start(folder, receivers)
    found = []
    for number in range(rounds):
        sides = [
            lambda n: one(folder, binary, f"direct-{n}", getattr(receivers, state.receiver).write_url, None, seconds),
            lambda n: one(folder, binary, f"through-{n}", gate.write_url, queue, seconds),
        ]
        order = (0, 1) if number % 2 == 0 else (1, 0)
        seen = {side: sides[side](number) for side in order}
        found.append((seen[0], seen[1]))
    told = insist_state(gate)
    programs.end_all()
    return found, told


def medians(seen):
    return {name: statistics.median(getattr(one, name) for one in seen) for name in MEASURES}


def line(version, name, direct, through, told):
    def cell(measure, unit):
        return f"{direct[measure]:{unit}} / {through[measure]:{unit}}"

    def ratio(measure):
        return f"{through[measure] / direct[measure]:.2f}" if direct[measure] else "-"

    return (
        f"| {version} | {name} | {cell('ready', '.2f')} | {cell('rss', '.0f')} | {ratio('rss')} "
        f"| {cell('cpu', '.3f')} | {ratio('cpu')} | {cell('lag', '.0f')} | {told} |"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--prometheus", choices=VERSIONS, action="append")
    parser.add_argument("--state", choices=[state.name for state in STATES], action="append")
    parser.add_argument("--larger-requests", action="store_true")
    asked = parser.parse_args()
    queue = LARGER_REQUESTS if asked.larger_requests else None
    base = tempfile.mkdtemp(prefix="sluicegate-priority2-")
    harmed = []
    print(
        "| Prometheus | Sluicegate | ready, s: direct / through | RSS, MiB | ratio | CPU, cores | ratio | lag, s | |\n"
        "|---|---|---|---|---|---|---|---|---|",
        flush=True,
    )
    for version in asked.prometheus or VERSIONS:
        binary = VERSIONS[version]
        programs.find(binary)
        alone = one(base, binary, f"alone-{version}", seconds=asked.seconds)
        for state in STATES:
            if asked.state and state.name not in asked.state:
                continue
            folder = os.path.join(base, f"{version}-{state.name}".replace(" ", "-").replace(",", ""))
            os.makedirs(folder)
            try:
                found, told = pairs(folder, binary, state, asked.rounds, asked.seconds, queue)
            except Missing as missing:
                print(f"| {version} | {state.name} | skipped: {missing} |")
                continue
            except Different as different:
                harmed.append(f"{version}, {state.name}: {different}")
                programs.end_all()
                continue
            direct, through = (medians([pair[side] for pair in found]) for side in (0, 1))
            print(line(version, state.name, direct, through, told), flush=True)
            for pair in found:
                harmed += [f"{version}, {state.name}: {what}" for what in beside.harm(alone, *pair)]
    print(*harmed, sep="\n")
    if harmed:
        print(f"logs in {base}")
    else:
        shutil.rmtree(base, ignore_errors=True)
    return bool(harmed)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, told_to_stop)
    try:
        sys.exit(main())
    except Missing as missing:
        print(missing)
        sys.exit(77)
