#!/usr/bin/env bash
# Prepares a Debian machine that has Rust and nothing else for building and running Perennial: the system
# packages that are missing, the native libraries, rustfmt and clippy. Does nothing, quickly, when all is there.
# Everything it says goes to standard error, so that a caller's standard output stays its own.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/env.sh
source scripts/lib.sh

exists() { compgen -G "$1" >/dev/null; }

# --- Rust ------------------------------------------------------------------------------------------------------

check_rust() {
    local wanted found advice="Install it with rustup, or a newer package."
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    have rustup && advice="Run: rustup update stable"
    have cargo || die "cargo is not there, and Perennial needs Rust $wanted or newer. $advice"
    found=$(cargo --version) || die "cargo does not run here. $advice"
    found=${found#cargo }
    found=${found%% *}
    if [[ $(printf '%s\n' "$wanted" "${found%%-*}" | sort -V | head -n 1) != "$wanted" ]]; then
        die "Perennial needs Rust $wanted or newer, and the cargo here is $found. $advice"
    fi
}

# rustfmt and clippy are only for contributors, so their absence stops nothing here.
add_components() {
    local bin missing=()
    bin=$(rustc --print sysroot)/bin
    [[ -x $bin/cargo-fmt ]] || missing+=(rustfmt)
    [[ -x $bin/cargo-clippy ]] || missing+=(clippy)
    [[ ${#missing[@]} -gt 0 ]] || return 0
    if have rustup; then
        say "Adding ${missing[*]} to the Rust toolchain."
        rustup component add "${missing[@]}" >&2 && return 0
    fi
    say "Without ${missing[*]} 'make lint' will fail; everything else works."
}

# --- System packages ---------------------------------------------------------------------------------------------

# bindgen needs the library and the headers that belong to it.
have_libclang() {
    [[ -z ${LIBCLANG_PATH:-} ]] || return 0
    local lib
    for lib in /usr/lib/llvm-*/lib /usr/lib /usr/lib64 /usr/lib/*-linux-gnu; do
        if exists "$lib/libclang.so*" || exists "$lib/libclang-[0-9]*.so*"; then
            exists "/usr/lib*/llvm-*/lib/clang/*/include/stddef.h" && return 0
            exists "/usr/lib*/clang/*/include/stddef.h" && return 0
        fi
    done
    return 1
}

pip() {
    if python3 -m pip --version >/dev/null 2>&1; then
        python3 -m pip "$@"
    else
        command pip "$@"
    fi
}

add_packages() {
    local missing=()
    { have cc && have c++ && have make; } || missing+=(build-essential)
    have_libclang || missing+=(libclang-dev)
    have pkg-config || missing+=(pkg-config)
    # For Kafka: librdkafka is compiled with the crate, against these.
    pkg-config --exists libssl 2>/dev/null || missing+=(libssl-dev)
    pkg-config --exists zlib 2>/dev/null || missing+=(zlib1g-dev)
    # For the examples in Python, which are tested in an environment of their own (scripts/python.sh).
    python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
    if ! native_is_done; then
        have python3 || missing+=(python3)
        pip --version >/dev/null 2>&1 || missing+=(python3-pip)
    fi
    install_packages "${missing[@]}"
}

# --- Native libraries --------------------------------------------------------------------------------------------

default_native=$perennial_cache/native
pins=scripts/native-libraries.txt
machine=$(uname -m)
stamp="$(sha256sum <"$pins") $machine"

has_libraries() {
    exists "$1/libonnxruntime.so*" && [[ -e $1/libxgboost.so ]]
}

native_is_done() {
    if [[ $PERENNIAL_NATIVE != "$default_native" ]]; then
        # A folder of the user's own is used as it is, never written to.
        has_libraries "$PERENNIAL_NATIVE" && return 0
        die "PERENNIAL_NATIVE is $PERENNIAL_NATIVE, which lacks libonnxruntime.so.* or libxgboost.so. Put them there, or unset it."
    fi
    [[ -f $default_native/.stamp && $(<"$default_native/.stamp") == "$stamp" ]] && has_libraries "$default_native"
}

fetch_native() {
    local temp
    native_is_done && return 0
    [[ $(uname -s) == Linux && ($machine == x86_64 || $machine == aarch64) ]] \
        || die "There are native libraries for Linux on x86_64 and aarch64 only, and this is $(uname -s) on $machine."

    lock "$perennial_cache/setup.lock"
    native_is_done && return 0

    say "Fetching ONNX Runtime and XGBoost, about 35 MB."
    rm -rf "$default_native".new.* "$default_native".old.* # what an interrupted run left
    temp=$(mktemp -d "$default_native.new.XXXXXX")
    # shellcheck disable=SC2064 # the path of now
    trap "rm -rf '$temp'" EXIT
    mkdir "$temp/wheels" "$temp/native"
    pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes \
        --platform "manylinux_2_28_$machine" --python-version 311 --implementation cp --abi cp311 \
        --dest "$temp/wheels" --requirement "$pins" >&2 \
        || die "The native libraries could not be fetched; what pip said is above."

    say "Unpacking them to $default_native."
    python3 - "$temp/wheels" "$temp/native" <<'PYTHON'
import pathlib, re, shutil, sys, zipfile

wheels, native = map(pathlib.Path, sys.argv[1:])
wanted = [r"onnxruntime/capi/libonnxruntime\.so\.[\d.]+", r"xgboost/lib/libxgboost\.so", r"xgboost_cpu\.libs/libgomp-.+"]
for wheel in wheels.glob("*.whl"):
    with zipfile.ZipFile(wheel) as files:
        for name in files.namelist():
            for pattern in [p for p in wanted if re.fullmatch(p, name)]:
                wanted.remove(pattern)
                target = native / pathlib.PurePosixPath(name).name
                with files.open(name) as source, target.open("wb") as out:
                    shutil.copyfileobj(source, out)
                target.chmod(0o755)
if wanted:
    sys.exit("setup: The wheels lack " + ", ".join(wanted))
PYTHON
    echo "$stamp" >"$temp/native/.stamp"
    if [[ -e $default_native ]]; then
        mv "$default_native" "$default_native.old.$$"
    fi
    mv "$temp/native" "$default_native"
    rm -rf "$default_native.old.$$"
}

check_rust
add_packages
fetch_native
add_components
