#!/usr/bin/env bash
# What the log on disk costs, with the release binary and nothing else (Linux: it reads /proc):
#
#   benches/disk-log.sh [cost|pile|start]...     some of it, or all three
#
#   cost    CPU a sample of `--ack fsync` against `--ack memory`, in pairs, at a steady load and at full speed
#   pile    RSS under --memory.limit 64MiB while the receiver is down and the log grows, then back
#   start   time from spawn to `sluicegate ready` with a large log behind it, after SIGKILL
#
#   SLUICEGATE_BIN=PATH     the binary instead of target/release/sluicegate
#   DISK_LOG_DIR=PATH       a folder on the disk that is meant (default: target/disk-log)
#   DISK_LOG_RUNS=N         runs of each mode in `cost` (default 3)
#   DISK_LOG_SECONDS=N      seconds of steady load in each (default 10)
#   DISK_LOG_PILE=MIB       size the log grows to in `pile` (default 128)
#   DISK_LOG_BEHIND=MIB     size of the log in `start` (default 512)
#
# The defaults take about three minutes. Decision 0012 tells what longer runs have shown.
# Load, proxy and receiver share the machine: the CPU is the proxy's own, rates are the machine's.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

BIN=${SLUICEGATE_BIN:-target/release/sluicegate}
DIR=${DISK_LOG_DIR:-target/disk-log}
RUNS=${DISK_LOG_RUNS:-3}
SECONDS_EACH=${DISK_LOG_SECONDS:-10}
PILE_MIB=${DISK_LOG_PILE:-128}
BEHIND_MIB=${DISK_LOG_BEHIND:-512}
# 41,000 series are scraped every 15 s: so many times faster they are 100,000 samples a second.
STEADY=${DISK_LOG_SPEED:-37x}

work=$(mktemp -d)
mkdir -p "$DIR"
pids=()
clean() {
    ((${#pids[@]} == 0)) || kill -KILL "${pids[@]}" 2>/dev/null || true
    rm -rf "$work" "$DIR/log"
}
trap clean EXIT
die() {
    printf 'FAILED: %s\n' "$1" >&2
    exit 1
}

# --- The three processes ---------------------------------------------------------------

# sink ADDRESS OPTION...: a receiver. Sets sink_pid, sink_at.
sink() {
    local address=$1
    : >"$work/sink.log"
    shift
    "$BIN" bench sink --listen "$address" --output json "$@" >"$work/sink.json" 2>"$work/sink.log" &
    sink_pid=$!
    pids+=("$sink_pid")
    until_told "$work/sink.log" 'listening on'
    sink_at=$(sed -n 's/^listening on //p' "$work/sink.log")
}

# proxy UPSTREAM OPTION...: sets proxy_pid, data, admin, and ready_ms: from spawn to ready.
proxy() {
    local upstream=$1 began
    shift
    : >"$work/run.log"
    began=$(date +%s%N)
    "$BIN" run --upstream "http://$upstream/api/v1/write" --listen 127.0.0.1:0 --web.listen-address 127.0.0.1:0 \
        "$@" >"$work/run.log" 2>>"$work/run.err" &
    proxy_pid=$!
    pids+=("$proxy_pid")
    until_told "$work/run.log" 'sluicegate ready'
    ready_ms=$((($(date +%s%N) - began) / 1000000))
    data=$(sed -n 's/^sluicegate ready data=\([^ ]*\) .*/\1/p' "$work/run.log")
    admin=$(sed -n 's/^sluicegate ready .* admin=//p' "$work/run.log")
}

# load OPTION...: to its end.
load() {
    "$BIN" bench load --url "http://$data/api/v1/write" --nodes 50 --output json "$@" \
        >"$work/load.json" 2>"$work/load.log"
}

# loading OPTION...: without an end. Sets load_pid.
loading() {
    "$BIN" bench load --url "http://$data/api/v1/write" --nodes 50 --output json "$@" \
        >"$work/load.json" 2>"$work/load.log" &
    load_pid=$!
    pids+=("$load_pid")
}

# stop PID: SIGTERM, and its end.
stop() {
    kill -TERM "$1"
    wait "$1" || true
}

until_told() {
    local tries
    for ((tries = 0; tries < 3000; tries++)); do
        grep -q "$2" "$1" 2>/dev/null && return 0
        sleep 0.01
    done
    die "no '$2' within thirty seconds: $(cat "$1" "$work/run.err" 2>/dev/null)"
}

# metric NAME: the sum over the series of that name.
metric() {
    local host=${admin%:*} port=${admin##*:}
    exec 3<>"/dev/tcp/$host/$port"
    printf 'GET /metrics HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n' "$admin" >&3
    awk -v name="$1" '$1 == name || index($1, name "{") == 1 { sum += $NF } END { printf "%.0f\n", sum }' <&3
    exec 3>&-
}

# drained SECONDS: waits until nothing is pending.
drained() {
    local tries
    for ((tries = 0; tries < 4 * $1; tries++)); do
        [ "$(metric sluicegate_pending_samples)" = 0 ] && return 0
        sleep 0.25
    done
    return 1
}

# number FILE NAME: the first number of that name in a JSON report.
number() { sed -n "s/^ *\"$2\": \([0-9.]*\),*$/\1/p" "$1" | head -n 1; }

# CPU of the proxy so far, in ticks of 10 ms; its memory, KiB: VmRSS or VmHWM.
cpu() { awk '{ sub(/.*\) /, ""); print $12 + $13 }' "/proc/$proxy_pid/stat"; }
memory() { awk -v what="$1:" '$1 == what { print $2 }' "/proc/$proxy_pid/status"; }

median() { sort -n | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'; }

# --- cost: CPU a sample ----------------------------------------------------------------

# cost_of MODE LOAD-OPTION...: prints nanoseconds of CPU a sample, and what else is worth to be seen.
cost_of() {
    local mode=$1 before after got syncs
    shift
    local options=(--ack memory)
    if [ "$mode" = fsync ]; then options=(--storage.path "$DIR/log"); fi
    sink 127.0.0.1:0 --verify 1
    proxy "$sink_at" "${options[@]}"
    before=$(cpu)
    load "$@" || die "bench load: $(cat "$work/load.json")"
    drained 60 || die "still pending after a minute"
    after=$(cpu)
    syncs=$(($(metric sluicegate_storage_syncs_total) + $(metric sluicegate_journal_syncs_total)))
    [ "$(metric sluicegate_conservation_error)" = 0 ] || die "sluicegate_conservation_error"
    extra="syncs $syncs, decoded again $(metric sluicegate_decoded_records_total), batches $(metric sluicegate_batches_total), peak $(memory VmHWM) KiB"
    stop "$proxy_pid"
    stop "$sink_pid"
    pids=()
    sent=$(number "$work/load.json" acknowledged)
    got=$(number "$work/sink.json" samples)
    [ -n "$sent" ] && [ "$sent" = "$got" ] || die "acknowledged: $sent, at the receiver: $got"
    rm -rf "$DIR/log"
    nanos=$(((after - before) * 10000000 / sent))
}

compare() {
    local what=$1 run mode
    shift
    : >"$work/memory" && : >"$work/fsync"
    for ((run = 1; run <= RUNS; run++)); do
        for mode in memory fsync; do
            cost_of "$mode" "$@"
            echo "$nanos" >>"$work/$mode"
            echo "cost: $what, $mode: $nanos ns of CPU a sample, $sent samples, $extra"
        done
    done
    awk -v what="$what" -v m="$(median <"$work/memory")" -v f="$(median <"$work/fsync")" 'BEGIN {
        printf "cost: %s: memory %d, fsync %d ns a sample (medians): %.2f times\n", what, m, f, f / m }'
    paste "$work/memory" "$work/fsync" | awk -v what="$what" '{ printf "%.2f\n", $2 / $1 }' | median |
        sed "s|^|cost: $what: median of the pairs' ratios: |"
}

cost() {
    compare "steady, $STEADY" --senders 8 --speed "$STEADY" --duration "${SECONDS_EACH}s"
    compare "full speed" --senders 8 --speed full --scrapes 40
}

# --- pile: memory while the log grows --------------------------------------------------

# parts: what the proxy says it holds in memory, KiB.
parts() {
    local host=${admin%:*} port=${admin##*:}
    exec 3<>"/dev/tcp/$host/$port"
    printf 'GET /metrics HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n' "$admin" >&3
    sed -n 's/^sluicegate_memory_reserved_bytes{part="\([a-z]*\)"} \([0-9]*\).*/\1 \2/p' <&3 |
        awk '{ printf "%s%s %d", (NR > 1 ? ", " : ""), $1, $2 / 1024 }'
    exec 3>&-
}

told() {
    echo "pile: $1: log $(($(metric sluicegate_storage_bytes) >> 20)) MiB, RSS $(memory VmRSS) KiB, peak $(memory VmHWM) KiB ($(parts))"
}

pile() {
    local next=0 mib began took
    # An address that nobody listens on, until the receiver comes back.
    sink 127.0.0.1:0
    stop "$sink_pid"
    proxy "$sink_at" --storage.path "$DIR/log" --storage.max-bytes 20GiB --memory.limit 64MiB
    loading --senders 8 --speed "$STEADY" --duration 24h
    began=$SECONDS
    while mib=$(($(metric sluicegate_storage_bytes) >> 20)) && ((mib < PILE_MIB)); do
        if ((mib >= next)); then
            told "receiver down, $((SECONDS - began)) s"
            next=$((mib + PILE_MIB / 8))
        fi
        sleep 1
    done
    told "receiver down, $((SECONDS - began)) s"
    stop "$load_pid"
    sink "$sink_at" --verify 1
    began=$SECONDS
    next=0
    while [ "$(metric sluicegate_pending_samples)" != 0 ]; do
        if ((SECONDS - began >= next)); then
            told "receiver back, $((SECONDS - began)) s"
            next=$((next + 10))
        fi
        sleep 1
    done
    took=$((SECONDS - began))
    drained 120 || die "still pending after two minutes"
    told "all delivered, $took s after the receiver came back"
    [ "$(metric sluicegate_conservation_error)" = 0 ] || die "sluicegate_conservation_error"
    local admitted got
    admitted=$(metric sluicegate_received_samples_total)
    stop "$proxy_pid"
    stop "$sink_pid"
    pids=()
    got=$(number "$work/sink.json" samples)
    [ "$admitted" = "$got" ] || die "admitted: $admitted, at the receiver: $got"
    echo "pile: $admitted samples admitted, all at the receiver"
    rm -rf "$DIR/log"
}

# --- start: accepting with a large log behind it ---------------------------------------

# A request of a mebibyte that does not compress: 960 series with a label of 1020 random letters, one sample
# each, as Remote-Write 1.0 in snappy's literals.
request() {
    local value rest
    head -c 734400 /dev/urandom | base64 -w 1020 | while read -r value; do
        printf '\x0a\xa4\x08\x0a\x10\x0a\x08__name__\x12\x04fill\x0a\x82\x08\x0a\x01v\x12\xfc\x07%s' "$value"
        printf '\x12\x0b\x09\x00\x00\x00\x00\x00\x00\xf0\x3f\x10\x01'
    done >"$work/message"
    rest=$(stat -c %s "$work/message")
    ((rest == 960 * 1063)) || die "the message has $rest bytes"
    split -b 65536 "$work/message" "$work/piece."
    {
        printf '\xc0\xa4\x3e'
        for piece in "$work"/piece.*; do
            rest=$(($(stat -c %s "$piece") - 1))
            printf "\xf4\\x$(printf %02x $((rest & 255)))\\x$(printf %02x $((rest >> 8)))"
            cat "$piece"
        done
    } >"$work/body"
}

# fill MIB: through one connection, each request when the one before it is answered.
fill() {
    local length status line
    length=$(stat -c %s "$work/body")
    exec 4<>"/dev/tcp/${data%:*}/${data##*:}"
    for ((sent = 0; sent * length < $1 << 20; sent++)); do
        {
            printf 'POST /api/v1/write HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n' "$data" "$length"
            printf 'Content-Type: application/x-protobuf\r\nContent-Encoding: snappy\r\n\r\n'
            cat "$work/body"
        } >&4
        IFS= read -r status <&4
        [[ $status == *' 204 '* || $status == *' 200 '* ]] || die "filling: $status"
        while IFS= read -r line <&4 && [ "$line" != $'\r' ]; do :; done
    done
    exec 4>&-
}

start() {
    local run segments all=""
    sink 127.0.0.1:0
    stop "$sink_pid"
    local options=(--storage.path "$DIR/log" --storage.max-bytes 20GiB)
    request
    proxy "$sink_at" "${options[@]}"
    fill "$BEHIND_MIB"
    for ((run = 0; run < 5; run++)); do
        kill -KILL "$proxy_pid"
        wait "$proxy_pid" 2>/dev/null || true
        segments=("$DIR"/log/*.segment)
        if [ -n "${DISK_LOG_COLD:-}" ]; then sync && echo 3 >/proc/sys/vm/drop_caches; fi
        proxy "$sink_at" "${options[@]}"
        all+=" $ready_ms"
        # What it writes after the start is what the next start finds unsealed.
        fill 8
    done
    echo "start: $(du -sm "$DIR/log" | cut -f 1) MiB in ${#segments[@]} segments: ready after$all ms"
    kill -KILL "$proxy_pid"
    wait "$proxy_pid" 2>/dev/null || true
    pids=()
    rm -rf "$DIR/log"
}

# Read by another script, it only lends its functions.
[ "${BASH_SOURCE[0]}" = "$0" ] || return 0
for part in ${*:-cost pile start}; do
    case $part in
    cost | pile | start) "$part" ;;
    *) die "no such part: $part" ;;
    esac
done
