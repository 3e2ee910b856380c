#!/usr/bin/env bash
# Tests what is delivered beside the program: the chart, the unit and the Dockerfile in deploy/, and the package for
# Python. What lacks its tool is skipped with a word.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/env.sh
source scripts/lib.sh

export PYTHONDONTWRITEBYTECODE=1
export PERENNIAL=$CARGO_TARGET_DIR/release/perennial

helm=3.22.0
if ! have helm && have go; then
    folder=$perennial_cache/tools/helm-$helm
    if [[ ! -x $folder/helm ]]; then
        say "Installing Helm $helm; takes a few minutes, once."
        GOBIN=$folder go install "helm.sh/helm/v3/cmd/helm@v$helm" >&2 || say "Helm could not be installed."
    fi
    export PATH=$folder:$PATH
fi
python=$(scripts/python.sh deploy)
PATH=${python%/*}:$PATH "$python" -m unittest discover --start-directory deploy/tests

python=$(scripts/python.sh python)
PYTHONPATH=python/src "$python" -m unittest discover --start-directory python/tests
