#!/usr/bin/env bash
# Other programs behind the same SIGKILLs, between the same sender and receiver (tests/faults/peers.rs). For
# docs/RELIABILITY.md; an hour, and not part of any check.
#
#   tests/faults/peers.sh [PEER...]         sluicegate-upstream sluicegate-fsync vmagent-debian vmagent
#                                           prometheus-2 prometheus-3
#
#   SLUICEGATE_FAULT_CYCLES=N               kills (10)
#   SLUICEGATE_FAULT_SEED=N                 the same for all of them (1)
#
# Each runs twice: with the receiver up all the time, and with it up, down, slow and failing. vmagent comes
# from Debian's package and, newer, from its Go module; Prometheus as tests/real/install.sh gets it.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

CACHE=${SLUICEGATE_TEST_CACHE:-$HOME/.cache/sluicegate-tests}
BIN=$CACHE/bin
export SLUICEGATE_FAULT_CYCLES=${SLUICEGATE_FAULT_CYCLES:-10} SLUICEGATE_FAULT_SEED=${SLUICEGATE_FAULT_SEED:-1}
mkdir -p "$BIN"
. tests/faults/vmagent.sh

one() { # PEER BINARY
    if [ -n "$2" ] && [ ! -x "$2" ]; then
        echo "SKIP $1: $2 is not there"
        return
    fi
    local receiver told
    for receiver in up mixed; do
        told=$(SLUICEGATE_PEER=$1 SLUICEGATE_PEER_BIN=$2 SLUICEGATE_PEER_RECEIVER=$receiver \
            cargo test --release --locked --test faults -- --ignored --nocapture --exact peers::what_a_peer_loses 2>&1)
        grep -o 'seed=.*' <<<"$told" || { echo "FAIL $1:"; tail -n 20 <<<"$told"; }
    done
}

for peer in ${*:-sluicegate-upstream sluicegate-fsync vmagent-debian vmagent prometheus-2 prometheus-3}; do
    case $peer in
        sluicegate-*) one "$peer" "" ;;
        vmagent-debian) vmagent_debian; one "$peer" "$BIN/vmagent-debian" ;;
        vmagent) vmagent; one "$peer" "$BIN/vmagent" ;;
        prometheus-2) one "$peer" "$BIN/prometheus" ;;
        prometheus-3) one "$peer" "$BIN/prometheus-3.14" ;;
        *) echo "no such peer: $peer" >&2; exit 64 ;;
    esac
done
