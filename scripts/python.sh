#!/usr/bin/env bash
# Prepares an environment for a folder of examples in Python, outside the checkout, and prints the path of its
# interpreter: scripts/python.sh examples/python
# Does nothing but that when it is there. Messages go to standard error.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/env.sh
source scripts/lib.sh

requirements=${1:?the folder of the examples}/requirements.txt
# Named after what is in it, so that it need never be changed while somebody uses it.
home=$perennial_cache/python/$({ python3 --version; cat "$requirements"; } | sha256sum | head -c 8)

install() {
    lock "$perennial_cache/python.lock"
    [[ ! -f $home/.done ]] || return 0
    python3 -c 'import ensurepip' 2>/dev/null || die "Python cannot make environments here. Run scripts/setup.sh first."
    say "Installing what $requirements names."
    rm -rf "$home" # what an interrupted run left
    mkdir -p "${home%/*}"
    python3 -m venv "$home"
    "$home/bin/pip" install --quiet --disable-pip-version-check --requirement "$requirements" >&2 \
        || die "The packages could not be installed; what pip said is above."
    touch "$home/.done"
}

# In a shell of its own, which takes the lock with it.
[[ -f $home/.done ]] || (install)
echo "$home/bin/python"
