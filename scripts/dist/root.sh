#!/usr/bin/env bash
# Builds the programs and lays everything out as it is installed: scripts/dist/root.sh FOLDER [CARGO_FLAGS...]
# FOLDER then has usr/bin, usr/lib/perennial with the programs and their libraries, man pages, completions, and more.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source scripts/env.sh
source scripts/lib.sh

root=${1:?the folder to lay everything out in}
shift
scripts/setup.sh
have patchelf || install_packages patchelf

cargo build --release -p perennial -p perennial-trainer --locked "$@" >&2
built=$CARGO_TARGET_DIR/release

rm -rf "$root"
lib=$root/usr/lib/perennial
share=$root/usr/share
mkdir -p "$lib" "$root/usr/bin" "$share"/{man/man1,bash-completion/completions,zsh/vendor-completions,fish/vendor_completions.d} \
    "$share/doc/perennial/examples" "$root/usr/lib/systemd/system" "$root/usr/lib/sysusers.d"

# Without symbols, and looking for their libraries beside themselves, not where they were built.
for program in perennial perennial-trainer; do
    strip -o "$lib/$program" "$built/$program"
done
patchelf --force-rpath --set-rpath '$ORIGIN' "$lib/perennial-trainer"
install -m 644 "$PERENNIAL_NATIVE"/lib*.so* "$lib"
ln -s ../lib/perennial/perennial "$root/usr/bin/perennial"

"$lib/perennial" man "$share/man/man1"
gzip -9n "$share"/man/man1/*
"$lib/perennial" completions bash >"$share/bash-completion/completions/perennial"
"$lib/perennial" completions zsh >"$share/zsh/vendor-completions/_perennial"
"$lib/perennial" completions fish >"$share/fish/vendor_completions.d/perennial.fish"

install -m 644 deploy/systemd/perennial@.service "$root/usr/lib/systemd/system"
install -m 644 deploy/systemd/perennial.sysusers "$root/usr/lib/sysusers.d/perennial.conf"
install -m 644 README.md CHANGELOG.md LICENSE "$share/doc/perennial"
install -m 644 configs/{simulator,simulator-kafka,simulator-regression,edge,cloud}.yaml "$share/doc/perennial/examples"
say "Laid out in $root."
