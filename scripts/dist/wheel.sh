#!/usr/bin/env bash
# Makes a wheel for Python of what root.sh has laid out: scripts/dist/wheel.sh ROOT FOLDER
# ROOT must have been built with the feature vendored-openssl, since a wheel may not ask for the system's.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source scripts/lib.sh

root=${1:?the folder that root.sh has filled}
folder=${2:?the folder for the wheel}

# The program loads the libraries of the packages that the wheel depends on.
while read -r pinned; do
    grep -qF "\"$pinned\"" python/pyproject.toml || die "python/pyproject.toml does not depend on $pinned, as scripts/native-libraries.txt does."
done < <(sed -n 's/^\([a-z-]*==[0-9.]*\) .*/\1/p' scripts/native-libraries.txt)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp Cargo.toml "$work"
cp -r python "$work/python"
find "$work/python" -name __pycache__ -prune -exec rm -r {} +
cp LICENSE "$work/python"
mkdir "$work/python/src/perennial/programs"
install -m 755 "$root"/usr/lib/perennial/{perennial,perennial-trainer} "$work/python/src/perennial/programs"
# The C library of this machine is the oldest that the programs run with.
libc=$(getconf GNU_LIBC_VERSION)
libc=${libc#glibc }
PERENNIAL_PLATFORM=manylinux_${libc/./_}_$(uname -m) \
    python3 -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir "$work/made" "$work/python" >&2 \
    || die "The wheel could not be made; what pip said is above."
mkdir -p "$folder"
mv "$work"/made/perennial-*.whl "$folder"
say "Made $(basename "$folder"/perennial-*.whl)."
