#!/usr/bin/env bash
# Makes a Debian package of what root.sh has laid out: scripts/dist/deb.sh ROOT FOLDER
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source scripts/lib.sh

root=${1:?the folder that root.sh has filled}
folder=${2:?the folder for the package}
missing=()
have dh || missing+=(debhelper)
have dpkg-buildpackage || missing+=(dpkg-dev)
have fakeroot || missing+=(fakeroot)
install_packages "${missing[@]}"

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/perennial"
cp -r deploy/debian "$work/perennial/debian"
cp -r "$root" "$work/perennial/root"
cp deploy/systemd/perennial.sysusers "$work/perennial/debian/perennial.sysusers"
mv "$work/perennial/debian/lintian-overrides" "$work/perennial/debian/perennial.lintian-overrides"
# debhelper installs its own copy, with the call that makes the user.
rm -r "$work/perennial/root/usr/lib/sysusers.d"
# Debian has the licence in one place for all.
rm "$work/perennial/root/usr/share/doc/perennial/LICENSE"
cat >"$work/perennial/debian/changelog" <<END
perennial ($version-1) unstable; urgency=medium

  * See CHANGELOG.md.

 -- Perennial authors <perennial@example.org>  $(git log -1 --format=%cD 2>/dev/null || date -R)
END
(cd "$work/perennial" && dpkg-buildpackage --build=binary --no-sign --no-check-builddeps) >"$work/log" 2>&1 \
    || { cat "$work/log" >&2; die "The package could not be made; what dpkg-buildpackage said is above."; }
mkdir -p "$folder"
mv "$work"/perennial_*.deb "$folder"
say "Made $(basename "$folder"/perennial_"$version"*.deb)."
