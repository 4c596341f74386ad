#!/usr/bin/env bash
# Builds the binary with the Dockerfile's own flags, and runs it as the image would: in a root folder with nothing but
# what the Dockerfile puts there, by a user that nobody knows, in a network of its own with a name server and receivers
# behind TLS. Needs root, unshare, chroot and openssl. A build of all that it is made of takes minutes.
#
#   SLUICEGATE_STATIC_BIN=FILE         this one instead of a build
#
# Exit status: 0, 1, or 77 for a skip.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

skip() {
    echo "$1"
    exit 77
}

[ "$(id -u)" = 0 ] || skip "a root folder of its own needs root"
for tool in unshare chroot openssl python3 readelf; do
    command -v "$tool" >/dev/null || skip "no $tool here"
done
unshare --net --mount true 2>/dev/null || skip "no namespaces here"

binary=${SLUICEGATE_STATIC_BIN:-}
if [ -z "$binary" ]; then
    target=$(rustc --print host-tuple)
    RUSTFLAGS=$(sed -n "s/.*RUSTFLAGS='\([^']*\)'.*/\1/p" deploy/docker/Dockerfile)
    [ -n "$RUSTFLAGS" ] || { echo "no RUSTFLAGS in the Dockerfile"; exit 1; }
    log=$(mktemp)
    RUSTFLAGS=$RUSTFLAGS CARGO_PROFILE_RELEASE_STRIP=debuginfo \
        cargo build --release --locked --bin sluicegate --target "$target" >"$log" 2>&1 ||
        { tail -n 5 "$log"; exit 1; }
    rm -f "$log"
    binary=${CARGO_TARGET_DIR:-target}/$target/release/sluicegate
fi
if readelf -lW "$binary" | grep -q INTERP || readelf -dW "$binary" | grep -q NEEDED; then
    echo "$binary asks for a loader or for libraries"
    exit 1
fi
PYTHONDONTWRITEBYTECODE=1 exec timeout -k 10 120 unshare --net --mount python3 tests/deploy/image.py "$binary"
