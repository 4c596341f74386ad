#!/usr/bin/env bash
# The same load through Sluicegate, vmagent and Prometheus in agent mode, between the same sender and receiver
# (Linux: it reads /proc):
#
#   benches/peers.sh [quick] [SCENE...] [PEER...]
#
#   steady    an even load: CPU, bytes, memory, order, duplicates, age
#   kill      the same load, and one SIGKILL in the middle of it: what is lost of what was acknowledged
#   outage    the receiver is down for a while: seconds until all is there, and memory
#   full      as fast as each takes it: samples a second from end to end
#   quick     one short run of each, to see that all of it works; its figures mean nothing: the load ends before
#             most programs have sent anything
#
#   direct               no program at all: what sender and receiver cost and do by themselves
#   sluicegate-fsync     --storage.path                       sluicegate-fsync/2.0 and so on: the load comes and
#   sluicegate-upstream  the default without it               goes as remote write 2.0
#   sluicegate-memory    --ack memory
#   vmagent-debian       Debian's package                     vmagent/1, vmagent-debian/1: -remoteWrite.queues=1,
#   vmagent              the current release, built by Go     which is how its users keep samples in order
#   prometheus-2         Debian's package, agent mode         prometheus-3/2.0: comes and goes as 2.0
#   prometheus-3         the current release, agent mode
#
#   SLUICEGATE_BIN=PATH    the binary instead of target/release/sluicegate
#   PEERS_DIR=PATH         a folder on the disk that is meant (default: target/peers)
#   PEERS_RUNS=N           runs of everything (3). Each run takes every peer once, so that what the machine does
#                          meanwhile meets all of them; the tables have the medians
#   PEERS_SECONDS=N        seconds of load in `steady` and `kill` (30), `full` (10)
#   PEERS_OUTAGE=N         seconds that the receiver is down in `outage` (20)
#   PEERS_NODES=N          nodes of 820 series each, scraped every second (25: 20,500 samples a second, which a
#                          Prometheus in agent mode sustains with half a core)
#   PEERS_DELAY=TIME       how far away the receiver is (50ms)
#
# All defaults, all peers: about 75 minutes. vmagent comes from Debian's package and its Go module, the others as
# tests/real/install.sh gets them; what is not there is skipped, and said. Every program runs as its users would
# run it, with its own defaults for queues, batches and retries. vmagent is told to speak Prometheus' protocol
# (-remoteWrite.forcePromProto): its own needs VictoriaMetrics behind it.
#
# What the numbers do not show:
# * Sender, receiver and program share one machine. CPU and memory are the program's own; rates and ages are the
#   machine's, with two busy programs beside. `direct` is the floor.
# * The clock's own timestamps, one second apart: Prometheus sends on only what is newer than its start. Bytes
#   are those of such data. Samples of 15 seconds differ more from each other, and take more.
# * CPU is user and system time of the process between the first sample and the last. What the kernel does for
#   it elsewhere (interrupts, writing pages back) is not in it.
# * Batches are what the defaults make of this load. vmagent flushes each second, the others after five: its age
#   is less and its requests are smaller.
# * `lost` is what one SIGKILL at one moment costs. tests/faults/peers.sh kills more often, and while the
#   receiver fails.
# * `outage` counts from the receiver's return to its last new sample. The load ends with the outage, so a
#   backoff that is running then is part of it; a program that sends on at once has only its deadline in it.
# * Prometheus also scrapes, relabels and answers queries; its write-ahead log serves that too.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

CACHE=${SLUICEGATE_TEST_CACHE:-$HOME/.cache/sluicegate-tests}
BIN=$CACHE/bin
OURS=$(realpath "${SLUICEGATE_BIN:-target/release/sluicegate}")
DIR=${PEERS_DIR:-target/peers}
RUNS=${PEERS_RUNS:-3}
LOAD_SECONDS=${PEERS_SECONDS:-30}
FULL_SECONDS=${PEERS_SECONDS:-10}
OUTAGE=${PEERS_OUTAGE:-20}
NODES=${PEERS_NODES:-25}
DELAY=${PEERS_DELAY:-50ms}
BEFORE_OUTAGE=5
# A program from which nothing came for so long has nothing more to give: vmagent waits up to a minute between
# two attempts.
QUIET=75
. tests/faults/vmagent.sh
mkdir -p "$BIN" "$DIR"
DIR=$(realpath "$DIR")

scenes=() peers=()
for word in "$@"; do
    case $word in
    quick) RUNS=1 LOAD_SECONDS=4 FULL_SECONDS=2 OUTAGE=3 NODES=2 QUIET=15 ;;
    steady | kill | outage | full) scenes+=("$word") ;;
    -h | --help)
        sed -n '2,/^set -euo/{/^set -euo/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
        exit 0
        ;;
    direct | sluicegate-* | vmagent* | prometheus-*) peers+=("$word") ;;
    *) echo "no such scene or peer: $word (see --help)" >&2 && exit 64 ;;
    esac
done
((${#scenes[@]})) || scenes=(steady kill outage full)
((${#peers[@]})) || peers=(direct sluicegate-fsync sluicegate-upstream sluicegate-memory vmagent-debian vmagent-debian/1
    vmagent vmagent/1 prometheus-2 prometheus-3 sluicegate-fsync/2.0 sluicegate-upstream/2.0 prometheus-3/2.0)

work=$(mktemp -d)
pids=()
clean() {
    ((${#pids[@]} == 0)) || kill -KILL "${pids[@]}" 2>/dev/null || true
    rm -rf "$work" "$DIR/storage"
}
trap clean EXIT
trap 'exit 130' INT TERM

# --- The three processes ---------------------------------------------------------------

now_ms() { echo $(($(date +%s%N) / 1000000)); }

# free_port: an address that nobody listens on.
free_port() {
    "$OURS" bench sink --listen 127.0.0.1:0 --duration 1ms 2>&1 >/dev/null | sed -n 's/^listening on //p'
}

# sink OPTION...: the receiver. Sets sink_pid, sink_at, sink_began.
sink() {
    rm -f "$work"/sink.*
    sink_began=$(now_ms)
    "$OURS" bench sink --listen 127.0.0.1:0 --verify 1 --delay "$DELAY" --ledger "$work/sink.ledger" --output json "$@" \
        >"$work/sink.json" 2>"$work/sink.log" &
    sink_pid=$!
    pids+=("$sink_pid")
    until_told "$work/sink.log" 'listening on'
    sink_at=$(sed -n 's/^listening on //p' "$work/sink.log")
}

# command_of PEER: sets `command`, the program between load and sink; empty for none.
command_of() {
    local kind=${1%/*} variant=${1#*/} upstream="http://$sink_at/api/v1/write" agent message=
    case $kind in
    direct) command=() ;;
    sluicegate-*)
        command=("$OURS" run --upstream "$upstream" --listen "$data" --web.listen-address 127.0.0.1:0)
        case $kind in
        *-fsync) command+=(--storage.path "$DIR/storage") ;;
        *-upstream) command+=(--ack upstream) ;;
        *-memory) command+=(--ack memory) ;;
        esac
        ;;
    vmagent | vmagent-debian)
        command=("$BIN/$kind" "-httpListenAddr=$data" "-remoteWrite.url=$upstream" "-remoteWrite.tmpDataPath=$DIR/storage")
        if [ "$kind" = vmagent ]; then command+=(-remoteWrite.forcePromProto=true); fi
        if [ "$variant" = 1 ]; then command+=(-remoteWrite.queues=1); fi
        ;;
    prometheus-*)
        if [ "$variant" = 2.0 ]; then message='  protobuf_message: io.prometheus.write.v2.Request'; fi
        printf 'remote_write:\n- url: %s\n%s\n' "$upstream" "$message" >"$work/prometheus.yml"
        agent=--agent
        if [ "$kind" = prometheus-2 ]; then agent=--enable-feature=agent; fi
        command=("$(program_of "$kind")" $agent "--config.file=$work/prometheus.yml" "--web.listen-address=$data"
            --web.enable-remote-write-receiver "--storage.agent.path=$DIR/storage")
        ;;
    esac
}

program_of() {
    case $1 in
    prometheus-2) echo "$BIN/prometheus" ;;
    prometheus-3) echo "$BIN/prometheus-3.14" ;;
    vmagent*) echo "$BIN/${1%/*}" ;;
    *) echo "$OURS" ;;
    esac
}

# start: runs `command`, and waits until it accepts. Sets program_pid.
start() {
    ((${#command[@]})) || return 0
    "${command[@]}" >>"$work/program.log" 2>&1 &
    program_pid=$!
    pids+=("$program_pid")
    local tries
    for ((tries = 0; tries < 3000; tries++)); do
        [[ "$(get "$data" "$ready_path")" == $ready ]] && return 0
        kill -0 "$program_pid" 2>/dev/null || break
        sleep 0.01
    done
    die "$peer does not listen: $(tail -n 5 "$work/program.log")"
}

# get ADDRESS PATH: the status.
get() {
    {
        exec 3<>"/dev/tcp/${1%:*}/${1##*:}" &&
            printf 'GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n' "$2" "$1" >&3 &&
            sed -n '1s/^[^ ]* \([0-9]*\).*/\1/p' <&3
    } 2>/dev/null || true
    exec 3>&- 2>/dev/null || true
}

# begin PEER SINK-OPTION...: receiver and program. Sets peer, protocol, target.
begin() {
    peer=$1
    shift
    protocol=1.0
    if [ "${peer#*/}" = 2.0 ]; then protocol=2.0; fi
    ready=200
    case $peer in
    vmagent*) ready_path=/health ;;
    prometheus-*) ready_path=/-/ready ;;
    # Any answer: its probes are at another address.
    *) ready_path=/ ready='[2-4]*' ;;
    esac
    rm -rf "$DIR/storage" "$work/program.log"
    mkdir -p "$DIR/storage"
    sink "$@"
    data=$(free_port)
    command_of "$peer"
    start
    target=$data
    if [ "$peer" = direct ]; then target=$sink_at; fi
}

# loading OPTION...: the sender. Sets load_pid.
loading() {
    rm -f "$work"/load.*
    "$OURS" bench load --url "http://$target/api/v1/write" --nodes "$NODES" --senders 4 --protocol "$protocol" \
        --speed realtime --ledger "$work/load.ledger" --output json "$@" >"$work/load.json" 2>"$work/load.log" &
    load_pid=$!
    pids+=("$load_pid")
}

# end: nothing runs any more.
end() {
    local pid
    for pid in ${program_pid:-} "$sink_pid"; do
        kill -TERM "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    program_pid=
    pids=()
}

until_told() {
    local tries
    for ((tries = 0; tries < 1000; tries++)); do
        grep -q "$2" "$1" 2>/dev/null && return 0
        sleep 0.01
    done
    die "no '$2' within ten seconds: $(cat "$1")"
}

die() {
    printf 'FAILED: %s\n' "$1" >&2
    exit 1
}

# --- Numbers ---------------------------------------------------------------------------

# number FILE NAME: the first number of that name in a JSON report.
number() { sed -n "s/^ *\"$2\": \([0-9.]*\),*$/\1/p" "$1" | head -n 1; }

# within FILE OBJECT NAME: the same within an object.
within() { sed -n "/^ *\"$2\": {/,/}/p" "$1" | sed -n "s/^ *\"$3\": \([0-9.]*\),*$/\1/p" | head -n 1; }

# arrived: distinct samples that the receiver has now.
arrived() {
    exec 3<>"/dev/tcp/${sink_at%:*}/${sink_at##*:}"
    printf 'GET /stats HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n' "$sink_at" >&3
    awk -F'[:,]' '/^ *"(samples|histograms)"/ { n += $2 } /^ *"(duplicates|conflicts)"/ { n -= $2 } END { printf "%d\n", n }' <&3
    exec 3>&-
}

# all_there COUNT: waits until the receiver has so many, or nothing has come for QUIET seconds.
all_there() {
    local now last=-1 since=$SECONDS
    while now=$(arrived) && ((now < $1)); do
        if ((now != last)); then
            last=$now since=$SECONDS
        fi
        ((SECONDS - since < QUIET)) || return 0
        sleep 0.2
    done
}

# CPU of the program and its children so far, ticks of 10 ms. Its memory, KiB: VmRSS or VmHWM.
cpu() {
    [ -n "${program_pid:-}" ] || { echo 0 && return; }
    awk '{ sub(/.*\) /, ""); print $12 + $13 + $14 + $15 }' "/proc/$program_pid/stat"
}
memory() {
    [ -n "${program_pid:-}" ] || { echo 0 && return; }
    awk -v what="$1:" '$1 == what { print $2 }' "/proc/$program_pid/status"
}

# note SCENE NAME VALUE: one value of one run, for the medians.
note() { echo "$3" >>"$work/figures/$1/${peer//\//_}/$2"; }

median_of() { # SCENE PEER NAME
    local file="$work/figures/$1/${2//\//_}/$3"
    [ -s "$file" ] || { echo - && return; }
    sort -n "$file" | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'
}

ratio() { awk -v a="$1" -v b="$2" -v f="${3:-%.1f}" 'BEGIN { if (b > 0) printf f "\n", a / b; else print "-" }'; }

# --- Scenes ----------------------------------------------------------------------------

steady() {
    begin "$1"
    local before acknowledged
    before=$(cpu)
    loading --interval 1s --duration "${LOAD_SECONDS}s"
    wait "$load_pid" || true
    acknowledged=$(number "$work/load.json" acknowledged)
    all_there "$acknowledged"
    note steady cpu "$(ratio $((($(cpu) - before) * 10000)) "$acknowledged" %.2f)"
    note steady rss $(($(memory VmHWM) / 1024))
    end
    note steady in "$(ratio "$(number "$work/load.json" bytes)" "$acknowledged")"
    note steady out "$(ratio "$(number "$work/sink.json" stored_bytes)" "$(number "$work/sink.json" samples)")"
    note steady disorder "$(number "$work/sink.json" order_violations)"
    note steady twice "$(number "$work/sink.json" duplicates)"
    note steady age50 "$(within "$work/sink.json" age_ms p50)"
    note steady age99 "$(within "$work/sink.json" age_ms p99)"
    judge steady
}

killed() {
    begin "$1"
    if [ "$peer" = direct ]; then
        end
        return
    fi
    loading --interval 1s --duration "${LOAD_SECONDS}s"
    sleep "$(ratio "$LOAD_SECONDS" 2)"
    kill -KILL "$program_pid"
    wait "$program_pid" 2>/dev/null || true
    start
    wait "$load_pid" || true
    all_there "$(number "$work/load.json" acknowledged)"
    end
    note kill acknowledged "$(number "$work/load.json" acknowledged)"
    note kill disorder "$(number "$work/sink.json" order_violations)"
    note kill twice "$(number "$work/sink.json" duplicates)"
    judge kill
}

outage() {
    begin "$1" --down refuse --down-from "${BEFORE_OUTAGE}s" --down-for "${OUTAGE}s"
    local back=$((sink_began + (BEFORE_OUTAGE + OUTAGE) * 1000)) left
    left=$((back - $(now_ms)))
    loading --interval 1s --duration "${left}ms" --remote-timeout 60s
    wait "$load_pid" || true
    all_there "$(number "$work/load.json" acknowledged)"
    note outage rss $(($(memory VmHWM) / 1024))
    end
    note outage drain "$(ratio $(($(number "$work/sink.json" last_stored_ms) - back)) 1000)"
    note outage disorder "$(number "$work/sink.json" order_violations)"
    note outage twice "$(number "$work/sink.json" duplicates)"
    judge outage
}

# Scrapes fifty times a second, which nothing keeps up with: timestamps fall behind the clock, and stay newer
# than the program's start.
full() {
    begin "$1"
    local before samples took
    before=$(cpu)
    loading --interval 20ms --duration "${FULL_SECONDS}s"
    wait "$load_pid" || true
    all_there "$(number "$work/load.json" acknowledged)"
    samples=$(number "$work/load.json" acknowledged)
    note full cpu "$(ratio $((($(cpu) - before) * 10000)) "$samples" %.2f)"
    note full rss $(($(memory VmHWM) / 1024))
    end
    took=$(($(number "$work/sink.json" last_stored_ms) - $(number "$work/sink.json" first_stored_ms)))
    note full rate "$(ratio "$((samples * 1000))" "$took" %.0f)"
    note full disorder "$(number "$work/sink.json" order_violations)"
    judge full
}

# judge SCENE: the ledgers against each other.
judge() {
    local ledger
    for ledger in load sink; do
        [ -s "$work/$ledger.ledger" ] || die "$peer, $1: no ledger of the $ledger: $(cat "$work/$ledger.log")"
    done
    "$OURS" bench compare --load "$work/load.ledger" --sink "$work/sink.ledger" --output json >"$work/found.json" || true
    note "$1" lost "$(number "$work/found.json" missing)"
    note "$1" wrong "$(($(number "$work/found.json" wrong) + $(number "$work/found.json" never_sent) + $(number "$work/found.json" conflicts)))"
}

# --- Tables ----------------------------------------------------------------------------

table() { # SCENE TITLE FORMAT HEADINGS... -- NAMES...
    local scene=$1 title=$2 headings=() name value
    shift 2
    while [ "$1" != -- ]; do
        headings+=("$1")
        shift
    done
    shift
    printf '\n%s\n\n%-26s' "$title" program
    printf '%14s' "${headings[@]}"
    printf '\n'
    for name in "${there[@]}"; do
        [ -d "$work/figures/$scene/${name//\//_}" ] || continue
        printf '%-26s' "$name"
        for value in "$@"; do printf '%14s' "$(median_of "$scene" "$name" "$value")"; done
        printf '\n'
    done
}

tables() {
    local scene
    for scene in "${scenes[@]}"; do
        case $scene in
        steady)
            table steady "steady: $((NODES * 820)) samples/s for $LOAD_SECONDS s, receiver $DELAY away, medians of $RUNS" \
                "CPU s/M" "B in" "B out" "RSS peak MiB" "out of order" duplicates lost wrong "age p50 ms" "age p99 ms" -- \
                cpu in out rss disorder twice lost wrong age50 age99
            ;;
        kill)
            table kill "kill: one SIGKILL after $((LOAD_SECONDS / 2)) of $LOAD_SECONDS s, medians of $RUNS" \
                acknowledged lost duplicates "out of order" wrong -- acknowledged lost twice disorder wrong
            ;;
        outage)
            table outage "outage: receiver down for $OUTAGE s, medians of $RUNS" \
                "drain s" "RSS peak MiB" lost duplicates "out of order" wrong -- drain rss lost twice disorder wrong
            ;;
        full)
            table full "full speed for $FULL_SECONDS s, medians of $RUNS" \
                "samples/s" "CPU s/M" "RSS peak MiB" lost "out of order" wrong -- rate cpu rss lost disorder wrong
            ;;
        esac
    done
}

# --- All of it -------------------------------------------------------------------------

there=()
for peer in "${peers[@]}"; do
    case $peer in
    vmagent-debian*) vmagent_debian || true ;;
    vmagent*) vmagent || true ;;
    esac
    program=$(program_of "${peer%/*}")
    if [ -x "$program" ]; then
        there+=("$peer")
    else
        echo "SKIP $peer: $program is not there; tests/real/install.sh gets Prometheus, vmagent needs apt-get or go"
    fi
done

echo "machine: $(nproc) x $(sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo | head -n 1), $(uname -r), load $(cut -d ' ' -f 1 /proc/loadavg)"
for ((run = 1; run <= RUNS; run++)); do
    for scene in "${scenes[@]}"; do
        for peer in "${there[@]}"; do
            mkdir -p "$work/figures/$scene/${peer//\//_}"
            case $scene in
            kill) killed "$peer" ;;
            *) "$scene" "$peer" ;;
            esac
            echo "run $run, $scene, $peer: $(cd "$work/figures/$scene/${peer//\//_}" && for file in *; do
                [ -s "$file" ] && printf '%s %s  ' "$file" "$(tail -n 1 "$file")"
            done)"
        done
    done
done
tables
