# shellcheck shell=bash
# What the set-ups share. Source this file after scripts/env.sh; messages begin with the name of the script and go
# to standard error, so that a caller's standard output stays its own.

say() { echo "$(basename "$0" .sh): $*" >&2; }
die() { say "$*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# Installs Debian packages, if any are named.
install_packages() {
    local as_root=()
    [[ $# -gt 0 ]] || return 0
    have apt-get || die "This machine has no apt-get. Please install what Debian calls $*, then try again."
    if [[ $EUID -ne 0 ]]; then
        have sudo || die "Installing $* needs root, and there is no sudo here. As root, run: apt-get install $*"
        as_root=(sudo)
    fi
    say "Installing $*."
    "${as_root[@]}" apt-get -qq update >&2
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends \
        -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0 install "$@" >/dev/null \
        || die "apt-get could not install $*; what it said is above."
}

# Waits for another set-up that holds this lock file, then holds it until this shell ends. What was missing may be
# there afterwards.
lock() {
    mkdir -p "$(dirname "$1")"
    exec 9>"$1"
    flock -n 9 && return 0
    say "Waiting for another set-up to finish."
    flock 9
}
