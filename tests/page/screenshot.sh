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

out=${1:-${CARGO_TARGET_DIR:-target}/page}
skip() { echo "SKIP the page in a browser: $1"; exit 0; }

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }
chromium=$(command -v chromium || command -v chromium-browser || true)
if [ -z "$chromium" ] && command -v apt-get >/dev/null; then
    echo "Chromium is missing: installing it"
    as_root apt-get update -qq >/dev/null 2>&1 &&
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null 2>&1 || true
    chromium=$(command -v chromium || true)
fi
[ -n "$chromium" ] || skip "there is no Chromium, and none could be installed"
command -v python3 >/dev/null || skip "it is driven by Python 3, and that is not here"

bin=${SLUICEGATE_BIN:-}
if [ -z "$bin" ]; then
    cargo build --locked
    bin=${CARGO_TARGET_DIR:-target}/debug/sluicegate
fi
mkdir -p "$out"
work=$(mktemp -d)
declare -A pids=()
stop_all() {
    for name in "${!pids[@]}"; do kill "${pids[$name]}" 2>/dev/null || true; done
    wait 2>/dev/null || true
    rm -rf "$work"
}
trap stop_all EXIT

# until_told FILE TEXT: waits for a line, twenty seconds at the most.
until_told() {
    local tries
    for ((tries = 0; tries < 400; tries++)); do
        grep -q "$2" "$1" 2>/dev/null && return 0
        sleep 0.05
    done
    cat "$1"
    echo "no '$2' within twenty seconds"
    exit 1
}

# sink ADDRESS FLAGS...: a receiver there, in place of the last one.
sink() {
    local address=$1
    shift
    down
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
# browse: the steps on standard input, in a browser.
browse() { python3 tests/page/browser.py "$chromium" "$out"; }

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
