#!/usr/bin/env bash
# Disk faults, power loss and stops, one scenario after another (tests/faults/disk.rs):
#
#   tests/faults/run.sh                 all of them, in their long form where they have one
#   tests/faults/run.sh quick           in their short form: three minutes at the most
#   tests/faults/run.sh [quick] NAME... some
#
#   SLUICEGATE_FAULT_SEED=N             replays: each scenario prints its seed
#   SLUICEGATE_FAULT_CUTS=N             so many power losses (5 in the short form, 100 in the long one)
#   SLUICEGATE_TEST_NO_INSTALL=1        use what is there, install nothing
#
# Installs strace, nbdkit, nbdfuse and fusermount3 where they are missing, if it may (as root, with apt-get).
# Prints a line for each: PASS, FAIL or SKIP with the reason. Output and files of a failure stay, and the line
# says where. The last line counts; the exit status is 1 if any failed.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

ALL="no_answer_comes_before_its_sync a_failed_sync_is_never_believed_later
    the_timeline_shows_that_memory_mode_does_not_sync sync_errors_now_and_then sync_errors_until_healed
    no_space_for_the_nth_write write_errors_until_healed slow_syncs_cost_time_and_no_memory
    a_full_disk_is_an_event_and_not_an_incident a_file_system_that_turns_read_only_loses_nothing
    a_power_cut_takes_what_was_not_synced_and_leaves_what_was power_loss_loses_nothing_acknowledged
    two_processes_do_not_share_a_folder a_stop_with_a_backlog_takes_five_seconds_at_most"

# As tests/run.sh builds, so that nothing is built twice.
CHECKED=(
    --config 'profile.release.debug-assertions=true'
    --config 'profile.release.overflow-checks=true'
    --config 'profile.release.package."*".debug-assertions=false'
    --config 'profile.release.package."*".overflow-checks=false'
)

if [ "${1:-}" = quick ]; then
    shift
else
    export SLUICEGATE_FAULT_LONG=1 SLUICEGATE_FAULT_CUTS=${SLUICEGATE_FAULT_CUTS:-100}
fi

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

install() {
    local lacking=()
    command -v strace >/dev/null || lacking+=(strace)
    command -v nbdkit >/dev/null || lacking+=(nbdkit)
    command -v nbdfuse >/dev/null || lacking+=(libnbd-bin)
    command -v fusermount3 >/dev/null || lacking+=(fuse3)
    command -v mkfs.ext4 >/dev/null || lacking+=(e2fsprogs)
    if [ ${#lacking[@]} = 0 ]; then return; fi
    echo "installing ${lacking[*]}"
    { as_root apt-get update -qq &&
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${lacking[@]}"; } \
        >/dev/null 2>&1 || echo "${lacking[*]} could not be installed"
}

[ "${SLUICEGATE_TEST_NO_INSTALL:-}" = 1 ] || install

# Paths of what was built are read from cargo's own messages.
test_binary=$(cargo test --release --locked "${CHECKED[@]}" --test faults --no-run 2>&1 |
    sed -n 's/^ *Executable .*(\(.*\))$/\1/p')
[ -x "$test_binary" ] || { echo "tests/faults does not build"; exit 1; }

logs=$(mktemp -d "${TMPDIR:-/tmp}/sluicegate-faults-XXXXXX")
export SLUICEGATE_FAULT_FOLDER=$logs
passed=0 failed=0 skipped=0
for name in ${*:-$ALL}; do
    began=$SECONDS
    # Every wait of a scenario has an end; this one is for what nobody thought of.
    timeout -k 10 3600 "$test_binary" --ignored --nocapture --test-threads=1 "$name" >"$logs/$name.log" 2>&1 </dev/null
    status=$?
    # What a test prints first stands behind its name.
    told=$(grep -oE '(SKIP: |seed=.*mode=).*' "$logs/$name.log" | tail -n 1)
    if [ $status != 0 ] || ! grep -q '^test result: ok. 1 passed' "$logs/$name.log"; then
        verdict=FAIL failed=$((failed + 1)) told="$(grep -A 3 'panicked at' "$logs/$name.log" | tail -n 3); $logs/$name.log"
    elif [[ $told == SKIP* ]]; then
        verdict=SKIP skipped=$((skipped + 1)) told=${told#SKIP: }
    else
        verdict=PASS passed=$((passed + 1))
    fi
    [ $verdict = FAIL ] || rm -f "$logs/$name.log"
    echo "$verdict $name: $told [$((SECONDS - began)) s]"
done
rmdir "$logs" 2>/dev/null
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
