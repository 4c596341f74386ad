#!/usr/bin/env bash
# Builds the binary for arm64 with the Dockerfile's own flags, and lets it play the demo under emulation: load, proxy
# with a log on disk, and a receiver that fails. Needs aarch64-linux-gnu-gcc and qemu-aarch64-static (Debian's packages
# gcc-aarch64-linux-gnu, libc6-dev-arm64-cross and qemu-user-static) and Rust's target aarch64-unknown-linux-gnu. Takes ten minutes.
#
#   SLUICEGATE_ARM64_BIN=FILE          this one instead of a build
#
# Exit status: 0, 1, or 77 for a skip.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

. tests/deploy/static.sh

command -v qemu-aarch64-static >/dev/null || skip "no qemu-aarch64-static here"
binary=${SLUICEGATE_ARM64_BIN:-}
if [ -z "$binary" ]; then
    target=aarch64-unknown-linux-gnu
    command -v aarch64-linux-gnu-gcc >/dev/null || skip "no aarch64-linux-gnu-gcc here"
    [ -d "$(rustc --print sysroot)/lib/rustlib/$target" ] || skip "rustup target add $target"
    export CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
    build_static "$target"
fi
must_be_static "$binary"
told=$(timeout -k 10 180 qemu-aarch64-static "$binary" demo --duration 30s --nodes 3 </dev/null 2>&1) ||
    { tail -n 15 <<<"$told"; exit 1; }
grep "^Nothing was lost" <<<"$told" || { tail -n 15 <<<"$told"; exit 1; }
