#!/usr/bin/env bash
# Makes an image of what root.sh has laid out, as an archive of the Open Container Initiative:
#   scripts/dist/image.sh ROOT FOLDER
# With BASE another image than that of Debian. Takes Docker or Buildah, and says so where there is neither.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source scripts/lib.sh

root=${1:?the folder that root.sh has filled}
folder=${2:?the folder for the archive}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
archive=$folder/perennial-$version-image-$(uname -m).tar
arguments=(--file deploy/docker/Dockerfile --target runtime --build-context "build=$root" --tag "perennial:$version")
[[ -z ${BASE:-} ]] || arguments+=(--build-arg "BASE=$BASE")

mkdir -p "$folder"
if have docker && docker info >/dev/null 2>&1; then
    docker buildx build "${arguments[@]}" --output "type=oci,dest=$archive" . >&2
elif have buildah; then
    buildah build --isolation chroot "${arguments[@]}" . >&2
    buildah push --quiet "perennial:$version" "oci-archive:$archive:perennial:$version" >&2
else
    say "Neither a Docker daemon nor Buildah is here: the image is left out."
    exit 0
fi
say "Made $(basename "$archive")."
