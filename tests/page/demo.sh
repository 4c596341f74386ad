#!/usr/bin/env bash
# The page of `sluicegate demo` in a real browser, while its script goes on.
#
#   tests/page/demo.sh [OUTPUT_FOLDER]     default: target/page
#
# Takes screenshots, and fails when the browser's console has anything to say, when numbers do not move,
# when the verdict does not tell in words what happens, when the page does not fit, or when the demo itself
# ends with anything but 0. Needs Chromium (Debian's package `chromium`) and Python 3; says so and ends with
# 0 where one of them is not to be had. SLUICEGATE_BIN names the program; without it, it is built.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

. tests/page/browse.sh
work=$(mktemp -d)
demo=
stop_all() {
    if [ -n "$demo" ]; then kill "$demo" 2>/dev/null || true; fi
    wait 2>/dev/null || true
    rm -rf "$work"
}
trap stop_all EXIT

"$bin" demo --duration 100s >"$work/demo.out" 2>"$work/demo.err" &
demo=$!
until_told "$work/demo.out" '^ *time '
page=$(sed -n 's/^ *page *\(http[^ ]*\).*/\1/p' "$work/demo.out")

# One session from the beginning to the end: the page has to follow by itself.
browse <<STEPS
size 1360 900
open $page
light
says #verdict All well
moves #tiles
moves #queues
shot demo-1-well
says #verdict cannot be reached since
moves #verdict
moves #tiles
shot demo-2-down
dark
shot demo-2-down-dark
light
patience 90
says #verdict nothing is lost
shot demo-3-back
says #verdict limits the rate (429
moves #tiles
shot demo-4-limited
size 420 900
fits
shot demo-4-limited-narrow
STEPS

until_told "$work/demo.out" '^Nothing was lost' 120
if wait "$demo"; then demo=; else
    cat "$work/demo.out" "$work/demo.err"
    echo "the demo ended with $?"
    exit 1
fi
cp "$work/demo.out" "$out/demo.txt"
sed -n '/acknowledged/,$p' "$out/demo.txt"
echo "screenshots are in $out"
