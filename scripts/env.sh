# shellcheck shell=sh
# Where the build finds and leaves its things, all outside the checkout. Source this file before calling
# cargo by hand (`. scripts/env.sh`); the Makefile does so itself. What is already set stays as it is.

perennial_cache="${XDG_CACHE_HOME:-$HOME/.cache}/perennial"

# One target directory for every checkout: RocksDB takes many minutes to compile, and should do so once.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$perennial_cache/target}"

# ONNX Runtime and XGBoost, put there by scripts/setup.sh.
export PERENNIAL_NATIVE="${PERENNIAL_NATIVE:-$perennial_cache/native}"
export XGBOOST_LIB_DIR="${XGBOOST_LIB_DIR:-$PERENNIAL_NATIVE}"

# A fresh rustup is on the PATH of the next login only.
if ! command -v cargo >/dev/null 2>&1 && [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ]; then
    export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
fi
