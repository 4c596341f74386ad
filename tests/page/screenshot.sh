#!/usr/bin/env bash
# The page in a real browser: a proxy, a load, and a receiver that is slow, flaky, down and back.
#
#   tests/page/screenshot.sh [OUTPUT_FOLDER]     default: target/page
#
# Takes screenshots, light and dark, and fails when the browser's console has anything to say, when numbers
# do not move, when the verdict does not tell what happens, or when the page does not fit. Needs Chromium
# (Debian's package `chromium`) and Python 3; says so and ends with 0 where one of them is not to be had.
# SLUICEGATE_BIN names the program; without it, it is built.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

. tests/page/browse.sh
work=$(mktemp -d)
declare -A pids=()
stop_all() {
    for name in "${!pids[@]}"; do kill "${pids[$name]}" 2>/dev/null || true; done
    wait 2>/dev/null || true
    rm -rf "$work"
}
trap stop_all EXIT

# sink ADDRESS FLAGS...: a receiver there, in place of the last one.
sink() {
    local address=$1
    shift
    down
    # What the last one has said does not count.
    : >"$work/sink.log"
    "$bin" bench sink --listen "$address" "$@" >"$work/sink.out" 2>"$work/sink.log" &
    pids[sink]=$!
    until_told "$work/sink.log" 'listening on'
    receiver=$(sed -n 's/^listening on //p' "$work/sink.log")
}
down() {
    if [ -n "${pids[sink]:-}" ]; then
        kill "${pids[sink]}"
        wait "${pids[sink]}" 2>/dev/null || true
        unset 'pids[sink]'
    fi
}
sink 127.0.0.1:0 --delay 80ms --jitter 60ms
"$bin" run --upstream "http://$receiver/api/v1/write" --storage.path "$work/log" --storage.max-bytes 256MiB \
    --listen 127.0.0.1:0 --web.listen-address 127.0.0.1:0 --batch-send-deadline 1s --max-backoff 1s \
    >"$work/run.out" 2>"$work/run.log" &
pids[run]=$!
until_told "$work/run.out" 'sluicegate ready'
data=$(sed -n 's/^sluicegate ready data=\([^ ]*\) .*/\1/p' "$work/run.out")
page=http://$(sed -n 's/^sluicegate ready .* admin=//p' "$work/run.out")/

browse <<STEPS
size 1360 900
open $page
says #verdict nothing has arrived yet
shot 1-waiting
STEPS

"$bin" bench load --url "http://$data/api/v1/write" --nodes 20 --interval 4s --speed realtime --duration 10m \
    >"$work/load.out" 2>"$work/load.log" &
pids[load]=$!
sleep 12

browse <<STEPS
size 1360 900
noscript $page
open $page
light
moves #tiles
moves #queues
says #verdict All well
shot 2-well
dark
shot 2-well-dark
size 420 900
light
fits
shot 2-well-narrow
STEPS

sink "$receiver" --delay 80ms --fail-every 3
sleep 12
browse <<STEPS
size 1360 900
open $page
says #verdict made again
shot 3-flaky
STEPS

sink "$receiver" --fail-every 1
sleep 6
browse <<STEPS
size 1360 900
open $page
says #verdict answers 503 since
moves #verdict
shot 4-answers-503
dark
shot 4-answers-503-dark
STEPS

down
sleep 6
browse <<STEPS
size 1360 900
open $page
says #verdict cannot be reached since
shot 5-down
STEPS

sink "$receiver" --delay 80ms
browse <<STEPS
size 1360 900
open $page
moves #tiles
shot 6-back
says #verdict nothing is lost
STEPS
echo "screenshots are in $out"
