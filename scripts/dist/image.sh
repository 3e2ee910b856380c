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
# Archives need the store of containerd, or a builder beside Docker's own.
writes_archives() {
    docker info --format '{{.DriverStatus}}' 2>/dev/null | grep -q io.containerd.snapshotter \
        || docker buildx inspect 2>/dev/null | grep -q '^Driver: *docker-container'
}

if have docker && docker buildx version >/dev/null 2>&1 && writes_archives; then
    docker buildx build "${arguments[@]}" --output "type=oci,dest=$archive" . >&2
elif have buildah; then
    buildah build --isolation chroot "${arguments[@]}" . >&2
    buildah push --quiet "perennial:$version" "oci-archive:$archive:perennial:$version" >&2
else
    say "Neither Buildah is here, nor a Docker that writes archives: the image is left out."
    exit 0
fi
say "Made $(basename "$archive")."
