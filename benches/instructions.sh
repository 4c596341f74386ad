#!/usr/bin/env bash
# Instructions of each stage of a sample's way, a sample (Valgrind's callgrind by gungraun; benches/instructions):
#
#   benches/instructions.sh [GUNGRAUN-OPTION...]
#
#   benches/instructions.sh                             all, a few minutes; says how they differ from the last run
#   benches/instructions.sh --save-baseline=before      keeps them under a name
#   benches/instructions.sh --baseline=before           says how they differ from those
#
# Needs Valgrind (Debian's package; installed if this may) and gungraun's runner, which is built into
# ~/.cache/sluicegate-tests the first time. Where one of them can't be had it says so and ends with 0.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/instructions"

SAMPLES=2000
CACHE=${SLUICEGATE_TEST_CACHE:-$HOME/.cache/sluicegate-tests}
skip() {
    echo "SKIP instructions: $1"
    exit 0
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

if ! command -v valgrind >/dev/null; then
    command -v apt-get >/dev/null || skip "Valgrind is missing, and there is no apt-get to install it with"
    { as_root apt-get update -qq && as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends valgrind libc6-dbg; } >/dev/null 2>&1 ||
        skip "Valgrind is missing and could not be installed: apt-get install valgrind libc6-dbg"
fi

# Runner and library must be of one version.
version=$(sed -n '/^name = "gungraun"$/{n;s/^version = "\(.*\)"$/\1/p}' Cargo.lock)
runner=$CACHE/gungraun-$version/bin/gungraun-runner
if [ ! -x "$runner" ]; then
    echo "building gungraun-runner $version"
    log=$(mktemp)
    cargo install --quiet --locked --root "$CACHE/gungraun-$version" --version "=$version" gungraun-runner >"$log" 2>&1 ||
        skip "gungraun-runner $version does not build here ($log)"
    rm -f "$log"
fi
export GUNGRAUN_RUNNER=$runner CARGO_TERM_COLOR=never CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-../../target}

told=$(mktemp)
trap 'rm -f "$told"' EXIT
# Not --locked: the lock follows what the main package depends on.
cargo bench --bench instructions -- "$@" 2>&1 | tee "$told"

# Header `…::stage_of_a_request NAME:…`, then `Instructions: NEW|OLD …`.
printf '\n%-20s %22s %14s\n' stage "instructions a sample" "a request"
awk -v n=$SAMPLES '
    /stage_of_a_request/ { split($2, name, ":") }
    /^ *Instructions:/ { split($2, count, "|"); printf "%-20s %22.1f %14d\n", name[1], count[1] / n, count[1] }
' "$told"
