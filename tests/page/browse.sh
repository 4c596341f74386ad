# Sourced by the scripts beside it, with the name of a folder: where the screenshots go (default: target/page).
# Sets `out`, `chromium` and `bin`, or says what is missing and ends with 0.

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

# until_told FILE TEXT [SECONDS]: waits for a line, twenty seconds at the most.
until_told() {
    local tries
    for ((tries = 0; tries < ${3:-20} * 20; tries++)); do
        grep -q "$2" "$1" 2>/dev/null && return 0
        sleep 0.05
    done
    cat "$1"
    echo "no '$2' within ${3:-20} seconds"
    exit 1
}

# browse: the steps on standard input, in a browser.
browse() { python3 tests/page/browser.py "$chromium" "$out"; }
