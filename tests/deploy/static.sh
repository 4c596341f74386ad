# Sourced by image.sh and arm64.sh, at the top of the repository: the binary as the Dockerfile builds it.

skip() {
    echo "$1"
    exit 77
}

# build_static TARGET: builds it with the Dockerfile's own flags; `binary` is where it is then.
build_static() {
    local target=$1 log RUSTFLAGS
    RUSTFLAGS=$(sed -n "s/.*RUSTFLAGS='\([^']*\)'.*/\1/p" deploy/docker/Dockerfile)
    [ -n "$RUSTFLAGS" ] || { echo "no RUSTFLAGS in the Dockerfile"; exit 1; }
    log=$(mktemp)
    RUSTFLAGS=$RUSTFLAGS CARGO_PROFILE_RELEASE_STRIP=debuginfo \
        cargo build --release --locked --bin sluicegate --target "$target" >"$log" 2>&1 ||
        { tail -n 5 "$log"; exit 1; }
    rm -f "$log"
    binary=${CARGO_TARGET_DIR:-target}/$target/release/sluicegate
}

# must_be_static BINARY
must_be_static() {
    if readelf -lW "$1" | grep -q INTERP || readelf -dW "$1" | grep -q NEEDED; then
        echo "$1 asks for a loader or for libraries"
        exit 1
    fi
}
