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

. tests/deploy/static.sh

[ "$(id -u)" = 0 ] || skip "a root folder of its own needs root"
for tool in unshare chroot openssl python3 readelf; do
    command -v "$tool" >/dev/null || skip "no $tool here"
done
unshare --net --mount true 2>/dev/null || skip "no namespaces here"

binary=${SLUICEGATE_STATIC_BIN:-}
[ -n "$binary" ] || build_static "$(rustc --print host-tuple)"
must_be_static "$binary"
PYTHONDONTWRITEBYTECODE=1 exec timeout -k 10 120 unshare --net --mount python3 tests/deploy/image.py "$binary"
