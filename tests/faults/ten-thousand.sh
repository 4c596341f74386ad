#!/bin/sh
# The long form: SIGKILL ten thousand times in each mode, 5 ms to 1 s after the program accepts (one in ten
# before that), the receiver up, down, slow and failing. About an hour and a half for each mode.
#
#   tests/faults/ten-thousand.sh [upstream|fsync]     one mode, or both
#
#   SLUICEGATE_FAULT_CYCLES=N     so many kills instead of 10000
#   SLUICEGATE_FAULT_SEED=N       seed of the first run; each run of 200 kills takes the next one
#
# Prints a line for each run, with the seed that replays it, and at the end the sums.
set -u
cd "$(dirname "$0")/../.." || exit 1

SLUICEGATE_FAULT_CYCLES=${SLUICEGATE_FAULT_CYCLES:-10000}
export SLUICEGATE_FAULT_CYCLES

status=0
for mode in ${*:-upstream fsync}; do
    told=$(mktemp)
    cargo test --release --locked --test faults -- --nocapture --test-threads=1 --exact \
        "kills::in_${mode}_mode_kills_lose_nothing_acknowledged" >"$told" 2>&1 || status=1
    grep -oE '(SKIP: |seed=.*mode=).*' "$told"
    awk -v mode="$mode" '
        /^seed=/ {
            runs++
            for (i = 1; i <= NF; i++) {
                split($i, pair, "=")
                if (pair[1] == "max_rss_kib") { if (pair[2] > rss) rss = pair[2] }
                else if (pair[1] == "recovery_ms") { split(pair[2], ms, "/"); if (ms[2] > slow) slow = ms[2] }
                else sum[pair[1]] += pair[2]
            }
        }
        END {
            printf "SUM %s: %d runs, %d kills, A=%d D=%d lost=%d out_of_order=%d", mode, runs, sum["kills"],
                sum["A"], sum["D"], sum["lost"], sum["out_of_order"]
            printf " dup_by_sender=%d dup_between=%d scrapes=%d max_rss_kib=%d recovery_ms_max=%s seconds=%d\n",
                sum["dup_by_sender"], sum["dup_between"], sum["scrapes"], rss, slow, sum["seconds"]
        }' "$told"
    if [ "$status" = 0 ]; then rm -f "$told"; else echo "FAIL: $told"; fi
done
exit $status
