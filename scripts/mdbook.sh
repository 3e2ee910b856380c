#!/usr/bin/env bash
# Runs mdBook with the arguments given, after installing the pinned version where it is missing.
# mdBook reports a broken include and goes on; here that is a failure.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/env.sh

version=0.5.4
tools=$perennial_cache/tools
mdbook=$tools/bin/mdbook

if [[ ! -x $mdbook || $("$mdbook" --version) != "mdbook v$version" ]]; then
    echo "book: Installing mdBook $version; takes a few minutes, once." >&2
    CARGO_TARGET_DIR=$perennial_cache/target-tools \
        cargo install mdbook --version "$version" --locked --no-default-features --force --quiet --root "$tools"
    rm -rf "$perennial_cache/target-tools"
fi

# Every decision must be a part of the book.
for decision in docs/decisions/*.md; do
    [[ -e $decision ]] || continue
    include="{{#include ../decisions/${decision##*/}}}"
    if ! grep -qF "$include" docs/src/decisions.md; then
        echo "book: docs/src/decisions.md lacks the line $include" >&2
        exit 1
    fi
    if ! grep -qF '(decisions.md)' docs/src/SUMMARY.md; then
        echo "book: docs/src/SUMMARY.md lacks the line - [Decisions](decisions.md)" >&2
        exit 1
    fi
done

log=$(mktemp)
trap 'rm -f "$log"' EXIT
"$mdbook" "$@" 2>&1 | tee "$log"
if grep -qwE 'ERROR|WARN' "$log"; then
    echo "book: mdBook complained; see above." >&2
    exit 1
fi
