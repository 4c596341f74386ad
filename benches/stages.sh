#!/usr/bin/env bash
# Time of each stage of a sample's way, nanoseconds a sample (Criterion; benches/stages.rs):
#
#   benches/stages.sh [CRITERION-OPTION...] [FILTER]
#
#   benches/stages.sh                            all, two minutes
#   benches/stages.sh walk                       those with `walk` in their name
#   benches/stages.sh --save-baseline before     keeps them under a name
#   benches/stages.sh --baseline before          says how much faster or slower than those
#
# One request of 2,000 samples goes through each stage, with 41,000 series known. The machine must have nothing
# else to do: the spread says whether it had. benches/instructions.sh does not mind.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

SAMPLES=2000
RESULTS=${CARGO_TARGET_DIR:-target}/criterion/stage
began=$(mktemp)
trap 'rm -f "$began"' EXIT

cargo bench --locked --bench stages -- "$@"

# estimate FILE STATISTIC: of a request, nanoseconds.
estimate() { sed -n "s/.*\"$2\":{[^}]*},\"point_estimate\":\([0-9.e+]*\).*/\1/p" "$1"; }

printf '\n%-20s %14s %14s\n' stage "ns a sample" "spread (MAD)"
sed -n 's/^ *(Stage::[A-Za-z0-9]*, "\([a-z0-9_]*\)"),$/\1/p' benches/stage/mod.rs | while read -r name; do
    file=$RESULTS/$name/new/estimates.json
    [ "$file" -nt "$began" ] || continue
    awk -v name="$name" -v median="$(estimate "$file" median)" -v spread="$(estimate "$file" median_abs_dev)" -v n=$SAMPLES \
        'BEGIN { printf "%-20s %14.1f %14.1f\n", name, median / n, spread / n }'
done
