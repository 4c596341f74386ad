#!/bin/sh
# Gets the real programs that the scenarios here run with, into a cache folder of their own:
#
#   ${SLUICEGATE_TEST_CACHE:-$HOME/.cache/sluicegate-tests}/bin/{prometheus,prometheus-node-exporter,
#       victoria-metrics,prometheus-3.14,thanos}
#
# Debian's packages are unpacked there and not installed: dpkg would start their services, add users,
# and need root. The newer Prometheus and Thanos are built from their Go modules. What is there already
# is left alone, so a second run takes no time. One line for each program tells what became of it:
#
#   have NAME VERSION
#   skip NAME: why
#
# Nothing that can't be had is an error: the scenarios that need it say that they are skipped.
# On a machine with two cores and empty caches the two builds take three to four minutes each while nothing
# else runs, and leave 2.3 GB of modules and 1.8 GB of build cache where Go keeps them.
set -u

CACHE=${SLUICEGATE_TEST_CACHE:-$HOME/.cache/sluicegate-tests}
BIN=$CACHE/bin
LOGS=$CACHE/logs
WORK=$CACHE/work
mkdir -p "$BIN" "$LOGS"

PROMETHEUS_MODULE=github.com/prometheus/prometheus
PROMETHEUS_VERSION=v0.314.0
THANOS_MODULE=github.com/thanos-io/thanos
# The newest first: a release may ask for a newer Go than the machine has.
THANOS_VERSIONS="v0.42.5 v0.42.4 v0.42.0 v0.40.1"

have() { echo "have $1 $2"; }
skip() { echo "skip $1: $2"; }

# --- Debian --------------------------------------------------------------------------

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

# Refreshes the package lists, once, and only if some package is not known from them.
update_lists() {
    [ -e "$WORK/updated" ] && return 0
    as_root apt-get update -qq >"$LOGS/apt.log" 2>&1
    touch "$WORK/updated"
}

download() { # PACKAGE: into the current folder
    apt-get download -qq "$1" >>"$LOGS/apt.log" 2>&1
}

debian() { # PACKAGE BINARY...
    package=$1
    if [ ! -x "$BIN/$package" ]; then
        if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
            skip "$package" "no apt-get or no dpkg-deb here"
            return
        fi
        rm -rf "$WORK/$package" && mkdir -p "$WORK/$package"
        if ! (cd "$WORK/$package" && { download "$package" || { update_lists && download "$package"; }; }); then
            skip "$package" "apt-get has no such package ($LOGS/apt.log)"
            return
        fi
        dpkg-deb -x "$WORK/$package"/*.deb "$WORK/$package/root"
        dpkg-deb -f "$WORK/$package"/*.deb Version >"$BIN/$package.version"
        mv "$WORK/$package/root/usr/bin/$package" "$BIN/$package"
    fi
    # A library that is not here shows only when the program is run.
    if ldd "$BIN/$package" 2>/dev/null | grep -q "not found"; then
        skip "$package" "missing $(ldd "$BIN/$package" | awk '/not found/ {print $1}' | tr '\n' ' ')"
        mv "$BIN/$package" "$BIN/$package.broken"
        return
    fi
    have "$package" "$(cat "$BIN/$package.version")"
}

# --- Go modules ----------------------------------------------------------------------

# `go install PACKAGE@VERSION` refuses modules with replace directives, as both of these have, so each
# is built in a writable copy of its source. GOWORK=off: Prometheus brings a go.work of its own.
build() { # MODULE VERSION PACKAGE OUTPUT GO-BUILD-FLAGS...
    module=$1 version=$2 package=$3 output=$4
    shift 4
    source=$(cd "$WORK" && GOWORK=off go mod download -json "$module@$version" 2>/dev/null |
        sed -n 's/^[[:space:]]*"Dir": "\(.*\)",$/\1/p')
    [ -n "$source" ] || return 1
    rm -rf "$WORK/source" && cp -R "$source" "$WORK/source" && chmod -R u+w "$WORK/source" || return 1
    echo "$module $version"
    (cd "$WORK/source" && GOWORK=off CGO_ENABLED=0 nice -n 15 \
        go build -p 2 -trimpath "$@" -o "$output.part" "$package") && mv "$output.part" "$output"
}

built() { # NAME VERSION...: whether it is there in one of these versions
    name=$1
    shift
    [ -x "$BIN/$name" ] || return 1
    case " $* " in *" $(cat "$BIN/$name.version" 2>/dev/null) "*) ;; *) return 1 ;; esac
}

# The version goes where the program's own User-Agent and --version take it from.
link_flags() { # VERSION
    echo "-s -w -X github.com/prometheus/common/version.Version=$1"
}

prometheus_newest() {
    name=prometheus-3.14
    if ! built "$name" $PROMETHEUS_VERSION; then
        if ! command -v go >/dev/null; then
            skip "$name" "no go here to build it with"
            return
        fi
        if ! build $PROMETHEUS_MODULE $PROMETHEUS_VERSION ./cmd/prometheus "$BIN/$name" \
            -tags remove_all_sd -ldflags "$(link_flags 3.14.0)" >"$LOGS/$name.log" 2>&1; then
            skip "$name" "$PROMETHEUS_MODULE@$PROMETHEUS_VERSION does not build here ($LOGS/$name.log)"
            return
        fi
        echo "$PROMETHEUS_VERSION" >"$BIN/$name.version"
    fi
    have "$name" "$(cat "$BIN/$name.version")"
}

thanos() {
    if ! built thanos $THANOS_VERSIONS; then
        if ! command -v go >/dev/null; then
            skip thanos "no go here to build it with"
            return
        fi
        : >"$LOGS/thanos.log"
        rm -f "$BIN/thanos"
        for version in $THANOS_VERSIONS; do
            # Without slicelabels it compiles, and panics at the first write.
            if build $THANOS_MODULE "$version" ./cmd/thanos "$BIN/thanos" \
                -tags netgo,slicelabels -ldflags "$(link_flags "${version#v}")" >>"$LOGS/thanos.log" 2>&1; then
                echo "$version" >"$BIN/thanos.version"
                break
            fi
        done
        if [ ! -x "$BIN/thanos" ]; then
            skip thanos "none of $THANOS_VERSIONS builds here ($LOGS/thanos.log)"
            return
        fi
    fi
    have thanos "$(cat "$BIN/thanos.version")"
}

rm -rf "$WORK" && mkdir -p "$WORK"
debian prometheus
debian prometheus-node-exporter
debian victoria-metrics
prometheus_newest
thanos
rm -rf "$WORK"
