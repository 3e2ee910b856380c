#!/usr/bin/env bash
# Makes everything that is delivered, in dist/: a Debian package, a tarball, a wheel, an image, a bill of materials, and
# checksums.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source scripts/lib.sh

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
name=perennial-$version-$(uname -m)-linux
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
rm -rf dist
mkdir dist

scripts/dist/root.sh "$work/root"
scripts/dist/deb.sh "$work/root" dist
scripts/dist/image.sh "$work/root" dist
# The same bytes for the same programs: sorted, and of the time of the commit.
made=$(git log -1 --format=%cI 2>/dev/null || date -Is)
tar --create --gzip --file "dist/$name.tar.gz" --directory "$work/root" --transform "s,^usr,$name," \
    --sort=name --mtime="$made" --owner=0 --group=0 --numeric-owner usr
say "Made $name.tar.gz."
scripts/dist/root.sh "$work/wheel" --features vendored-openssl
scripts/dist/wheel.sh "$work/wheel" dist
scripts/dist/sbom.sh dist
(cd dist && sha256sum -- * >SHA256SUMS)
ls -l dist >&2
