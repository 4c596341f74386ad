#!/bin/sh
# The scenarios with real programs, one after another:
#
#   tests/real/run.sh [SCENARIO...]        all of them, or some by their file's name without .py
#   tests/real/run.sh verify_gaps          three minutes, and not among all: gaps made on purpose, and named
#
#   SLUICEGATE_BIN=FILE                    the binary under test; target/release, then target/debug otherwise
#   SLUICEGATE_TEST_DIRECT=1               without the proxy, sender straight into receiver: tests the tests
#   SLUICEGATE_TEST_DISK_LOG=1             the proxy with --storage.path in every scenario
#   SLUICEGATE_TEST_PASSTHROUGH=1          the proxy with --mode passthrough in every scenario
#   SLUICEGATE_TEST_CACHE=DIR              where install.sh keeps the programs
#   SLUICEGATE_TEST_NO_INSTALL=1           use what is there, install nothing
#   SLUICEGATE_TEST_SCRAPES=N              length of a run in scrapes, of a second each (18)
#
# Prints a line for each: PASS, FAIL or SKIP, and what was compared or why. Logs of a failure stay, and the
# line says where. The last line counts; the exit status is 1 if any failed.
set -u

HERE=$(cd "$(dirname "$0")" && pwd)
ALL="odd_bits rw1_prometheus rw1_receiver_restart rw1_victoriametrics rw1_thanos rw2_prometheus rw2_victoriametrics verify_switch priority2_debian priority2_newest"

[ "${SLUICEGATE_TEST_NO_INSTALL:-}" = 1 ] || sh "$HERE/install.sh"

SLUICEGATE_TEST_LOGS=${SLUICEGATE_TEST_LOGS:-$(mktemp -d "${TMPDIR:-/tmp}/sluicegate-real-XXXXXX")}
export SLUICEGATE_TEST_LOGS
PYTHONDONTWRITEBYTECODE=1
export PYTHONDONTWRITEBYTECODE

passed=0 failed=0 skipped=0
for name in ${*:-$ALL}; do
    # Each has deadlines of its own everywhere; this one is for what nobody thought of.
    told=$(timeout -k 10 300 python3 "$HERE/$name.py" 2>&1)
    case $? in
        0) verdict=PASS passed=$((passed + 1)) ;;
        77) verdict=SKIP skipped=$((skipped + 1)) ;;
        124 | 137) verdict=FAIL told="no end in 300 s; $told" failed=$((failed + 1)) ;;
        *) verdict=FAIL failed=$((failed + 1)) ;;
    esac
    echo "$verdict $name: $told"
done
rmdir "$SLUICEGATE_TEST_LOGS" 2>/dev/null
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
