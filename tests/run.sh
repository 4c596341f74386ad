#!/usr/bin/env bash
# Everything that must hold, on a machine with nothing but Rust:
#
#   tests/run.sh             all of it
#   tests/run.sh quick       without the real programs and the full-speed check
#
# In this order: formatting, lints, all tests of the package, the release binary at full speed, what is in deploy/
# (tests/deploy/run.sh), and the release binary between real programs (tests/real/run.sh). Stops at the first part that fails. The last
# line is `N passed, N failed, N skipped`, of the scenarios with real programs.
#
# Installs, if it may (as root or by sudo without a password, with apt-get): a C compiler and Python 3,
# where they are missing. The real programs go into a cache folder of their own, see tests/real/install.sh.
# What can't be had is said, and what needs it is skipped.
#
# Everything is built in the release profile, so that dependencies are built once. The tests have debug
# assertions and overflow checks switched on, for this package and not for its dependencies: with them
# the queues check themselves, and optimised they are fast enough to be put under load.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

TARGET=${CARGO_TARGET_DIR:-target}
CHECKED=(
    --config 'profile.release.debug-assertions=true'
    --config 'profile.release.overflow-checks=true'
    --config 'profile.release.package."*".debug-assertions=false'
    --config 'profile.release.package."*".overflow-checks=false'
)

began=$SECONDS
section() { printf '\n=== %s (after %d s)\n' "$1" $((SECONDS - began)); }
die() {
    printf 'FAILED: %s\n' "$1" >&2
    exit 1
}

# --- What is needed --------------------------------------------------------------------

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

# need COMMAND PACKAGE...: installs the packages if the command is missing. Says whether it is there then.
need() {
    local command=$1 log
    shift
    command -v "$command" >/dev/null && return 0
    if ! command -v apt-get >/dev/null; then
        echo "$command is missing, and there is no apt-get to install it with"
        return 1
    fi
    echo "$command is missing: installing $*"
    log=$(mktemp)
    if as_root apt-get update -qq >"$log" 2>&1 &&
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >>"$log" 2>&1; then
        rm -f "$log"
        command -v "$command" >/dev/null
    else
        tail -n 3 "$log"
        rm -f "$log"
        echo "$* could not be installed"
        return 1
    fi
}

section "what is needed"
command -v cargo >/dev/null || die "cargo is missing: https://rustup.rs"
need cc gcc libc6-dev || die "no C compiler: ring, zstd and mimalloc need one"
cargo --version

# --- The sources -----------------------------------------------------------------------

section "cargo fmt --check"
if cargo fmt --version >/dev/null 2>&1; then
    cargo fmt --check || die "cargo fmt"
else
    echo "skipped: this toolchain has no rustfmt (rustup component add rustfmt)"
fi

section "cargo clippy"
if cargo clippy --version >/dev/null 2>&1; then
    cargo clippy --release --locked --all-targets "${CHECKED[@]}" -- -D warnings || die "cargo clippy"
else
    echo "skipped: this toolchain has no clippy (rustup component add clippy)"
fi

section "cargo test"
cargo test --release --locked "${CHECKED[@]}" </dev/null || die "cargo test"

section "the simulation and the tests of the log on disk find faults that are put in on purpose"
cargo test --release --locked "${CHECKED[@]}" --features mutants --test sim --test storage mutants </dev/null || die "mutants"

section "and so do the ledgers around a program that is killed"
cargo test --release --locked "${CHECKED[@]}" --features mutants --test faults mutants </dev/null || die "mutants"

[ "${1:-}" = quick ] && exit 0

section "disks that fail, fill up and lose power"
# strace and power cuts have times in them that a busy machine may stretch: what fails is tried once more by itself.
told=$(mktemp)
if ! tests/faults/run.sh quick | tee "$told"; then
    again=$(sed -n 's/^FAIL \([a-z_]*\):.*/\1/p' "$told")
    [ -n "$again" ] || die "tests/faults/run.sh quick"
    echo "once more: $again"
    # shellcheck disable=SC2086
    tests/faults/run.sh quick $again || die "tests/faults/run.sh quick"
fi
rm -f "$told"

# --- The release binary ----------------------------------------------------------------

section "cargo build --release"
cargo build --release --locked || die "cargo build --release"
SLUICEGATE_BIN=$(realpath "$TARGET/release/sluicegate")
export SLUICEGATE_BIN

# 41,000 series of 50 nodes over 8 connections; a receiver 100 ms away that answers every 7th request
# with 503. The sink checks every bit, order and duplicates; what it has must be what was acknowledged.
full_speed() {
    local work data admin sent got
    work=$(mktemp -d)
    trap 'kill "${pids[@]}" 2>/dev/null || true' EXIT
    "$SLUICEGATE_BIN" bench sink --listen 127.0.0.1:0 --verify 1 --delay 100ms --fail-every 7 --output json \
        >"$work/sink.json" 2>"$work/sink.log" &
    pids=($!)
    until_told "$work/sink.log" 'listening on'
    "$SLUICEGATE_BIN" run --upstream "http://$(sed -n 's/^listening on //p' "$work/sink.log")/api/v1/write" \
        --listen 127.0.0.1:0 --web.listen-address 127.0.0.1:0 --ack memory --batch-send-deadline 500ms \
        --capacity 5000 --max-samples-per-send 1000 --min-shards 50 --max-shards 100 \
        >"$work/run.log" 2>"$work/run.err" &
    pids+=($!)
    until_told "$work/run.log" 'sluicegate ready'
    data=$(sed -n 's/^sluicegate ready data=\([^ ]*\) .*/\1/p' "$work/run.log")
    admin=$(sed -n 's/^sluicegate ready .* admin=//p' "$work/run.log")
    "$SLUICEGATE_BIN" bench load --url "http://$data/api/v1/write" --nodes 50 --senders 8 --speed full \
        --scrapes 40 --output json >"$work/load.json" 2>"$work/load.log" ||
        { tail -n 20 "$work"/*.log "$work"/*.err "$work/load.json"; die "bench load lost something ($work)"; }
    if [ "$(metric "$admin" sluicegate_conservation_error)" != 0 ]; then
        die "sluicegate_conservation_error is not 0 ($work)"
    fi
    kill -TERM "${pids[1]}"
    wait "${pids[1]}" || die "sluicegate did not end with 0 ($work)"
    kill -TERM "${pids[0]}"
    wait "${pids[0]}" || { cat "$work/sink.json"; die "the receiver found faults ($work)"; }
    trap - EXIT
    sent=$(number "$work/load.json" acknowledged)
    got=$(number "$work/sink.json" samples)
    [ -n "$sent" ] && [ "$sent" = "$got" ] || die "acknowledged: $sent, at the receiver: $got ($work)"
    echo "$sent samples acknowledged, all at the receiver, once and in order"
    rm -rf "$work"
}

# until_told FILE TEXT: waits for a line, ten seconds at the most.
until_told() {
    local tries
    for ((tries = 0; tries < 200; tries++)); do
        grep -q "$2" "$1" 2>/dev/null && return 0
        sleep 0.05
    done
    cat "$1"
    die "no '$2' within ten seconds"
}

# metric ADDRESS NAME: the value of the first series of that name.
metric() {
    local host=${1%:*} port=${1##*:}
    exec 3<>"/dev/tcp/$host/$port"
    printf 'GET /metrics HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n' "$1" >&3
    sed -n "s/^$2[{ ].* \([^ ]*\)\r*$/\1/p" <&3 | head -n 1
    exec 3>&-
}

# number FILE NAME: the first number of that name in a JSON report.
number() { sed -n "s/^ *\"$2\": \([0-9]*\),*$/\1/p" "$1" | head -n 1; }

section "full speed"
full_speed

section "what is in deploy/"
tests/deploy/run.sh </dev/null || die "tests/deploy/run.sh"

section "real programs"
if need python3 python3 && command -v timeout >/dev/null; then
    tests/real/run.sh </dev/null
else
    echo "SKIP all: they are driven by Python 3 and timeout, and those are not here"
    echo "0 passed, 0 failed, $(sed -n 's/^ALL="\(.*\)"$/\1/p' tests/real/run.sh | wc -w) skipped"
fi
