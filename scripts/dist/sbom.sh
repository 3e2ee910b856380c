#!/usr/bin/env bash
# Writes what the programs are made of, as a bill of materials of CycloneDX: scripts/dist/sbom.sh FOLDER
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source scripts/env.sh
source scripts/lib.sh

folder=${1:?the folder for the bill}
cyclonedx=0.5.9
tools=$perennial_cache/tools
if [[ ! -x $tools/bin/cargo-cyclonedx || $("$tools/bin/cargo-cyclonedx" cyclonedx --version) != *" $cyclonedx" ]]; then
    say "Installing cargo-cyclonedx $cyclonedx; takes a few minutes, once."
    CARGO_TARGET_DIR=$perennial_cache/target-tools \
        cargo install cargo-cyclonedx --version "$cyclonedx" --locked --force --quiet --root "$tools"
    rm -rf "$perennial_cache/target-tools"
fi

# It writes beside each manifest.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tar --create --exclude=./.git --exclude=./dist . | tar --extract --directory "$work"
"$tools/bin/cargo-cyclonedx" cyclonedx --quiet --manifest-path "$work/Cargo.toml" --format json --spec-version 1.5 \
    --override-filename bill

mkdir -p "$folder"
python3 - "$work" "$folder/perennial.cdx.json" scripts/native-libraries.txt <<'END'
import json, re, sys

work, target, pins = sys.argv[1:]
# Not where the copy lay.
read = lambda part: json.loads(open(f"{work}/{part}/bill.json").read().replace(work, "/perennial"))
bill, trainer = read("."), read("trainer")
known = {component["bom-ref"] for component in bill["components"]}
bill["components"] += [one for one in trainer["components"] if one["bom-ref"] not in known]
edges = {one["ref"] for one in bill["dependencies"]}
bill["dependencies"] += [one for one in trainer["dependencies"] if one["ref"] not in edges]
for name, version in re.findall(r"^([a-z-]+)==([0-9.]+)", open(pins).read(), re.MULTILINE):
    reference = f"pkg:pypi/{name}@{version}"
    bill["components"].append({"type": "library", "name": name, "version": version, "purl": reference, "bom-ref": reference})
json.dump(bill, open(target, "w"), indent=1)
END
say "Made perennial.cdx.json."
