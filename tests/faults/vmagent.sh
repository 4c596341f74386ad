# Gets vmagent; read by tests/faults/peers.sh and benches/peers.sh, which set BIN, the folder of the programs.
# shellcheck shell=bash

VMAGENT_MODULE=github.com/VictoriaMetrics/VictoriaMetrics
VMAGENT_VERSION=v1.150.0

# From Debian's package, unpacked and not installed.
vmagent_debian() {
    local work
    [ -x "$BIN/vmagent-debian" ] && return
    work=$(mktemp -d) && chmod 755 "$work"
    (cd "$work" && apt-get download -qq victoria-metrics && dpkg-deb -x ./*.deb root) >/dev/null 2>&1 &&
        mv "$work/root/usr/bin/vmagent" "$BIN/vmagent-debian"
    rm -rf "$work"
}

# From its Go module, if there is a go.
vmagent() {
    local work source
    [ "$(cat "$BIN/vmagent.version" 2>/dev/null)" = $VMAGENT_VERSION ] && return
    command -v go >/dev/null || return
    work=$(mktemp -d)
    source=$(cd "$work" && GOWORK=off go mod download -json $VMAGENT_MODULE@$VMAGENT_VERSION 2>/dev/null |
        sed -n 's/^[[:space:]]*"Dir": "\(.*\)",$/\1/p')
    [ -n "$source" ] && cp -R "$source" "$work/source" && chmod -R u+w "$work/source" &&
        (cd "$work/source" && GOWORK=off CGO_ENABLED=0 nice -n 15 go build -p 2 -trimpath -o "$BIN/vmagent" ./app/vmagent) &&
        echo $VMAGENT_VERSION >"$BIN/vmagent.version"
    rm -rf "$work"
}
