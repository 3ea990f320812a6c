# shellcheck shell=bash
# What every script here shares: where things are, how it speaks, and the list of what it created.
# Sourced, never run. Each script opens with `set -euo pipefail` before it sources this file.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
state=$root/.state

# What a run created, one thing a line (kind, then its name), newest last. `undo` takes it back in
# reverse. The demo and the tests keep lists of their own, so that `make demo-down` never removes what
# `make test` had made before.
created=${PGMOOR_CREATED:-$state/setup.created}

say() { printf '\033[1m== %s\033[0m\n' "$*" >&2; }
die() {
    printf 'error: %s\n' "$1" >&2
    shift
    local hint
    for hint in "$@"; do printf '  %s\n' "$hint" >&2; done
    exit 1
}

# Packages, namespaces and directories owned by the image's postgres user all need root.
need_root() {
    [ "$(id -u)" = 0 ] || die "this needs root (packages, Docker, data directories of another user)" \
        "run it as root, or: sudo env PATH=\"\$PATH\" make ${PGMOOR_GOAL:-setup}"
}

# record KIND NAME…: note that this run created it.
record() {
    mkdir -p "$(dirname "$created")"
    grep -qxF -- "$*" "$created" 2>/dev/null || printf '%s\n' "$*" >> "$created"
}

# process PID: the process as `PID START`, with its start time in clock ticks since boot. A number alone
# may by now belong to somebody else. A zombie has ended, only its parent does not look.
process() { awk '{ sub(/.*\) /, ""); if ($1 != "Z") print pid, $20 }' pid="$1" "/proc/$1/stat" 2>/dev/null; }

# lives PID START: whether that very process still runs.
lives() { [ "$(process "$1")" = "$1 $2" ]; }

have() { command -v "$1" >/dev/null 2>&1; }

# wait_for SECONDS COMMAND…: until the command succeeds; fails when the deadline has passed.
wait_for() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$deadline" ] || return 1
        sleep 0.2
    done
}

# `docker info` succeeds without an engine on some clients; asking for the server's version does not.
docker_answers() { timeout 10 docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }

# The value of one of apt's options, empty when unset.
apt_option() { apt-config dump --format '%v%n' "$1" 2>/dev/null | head -n 1; }

# The proxies that this host's apt uses, as `name=value` words for an environment.
apt_proxies() {
    local scheme value
    for scheme in http https; do
        value=$(apt_option "Acquire::$scheme::Proxy")
        [ -z "$value" ] || [ "$value" = DIRECT ] || printf '%s_proxy=%s\n' "$scheme" "$value"
    done
}
