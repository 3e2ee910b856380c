//! Paths of the native parts: ONNX Runtime's library, the training program, XGBoost's library.

use std::env;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// File name of the program.
const PROGRAM: &str = "perennial";
/// File name of the training program.
const TRAINER: &str = "perennial-trainer";
/// Start of the file name of ONNX Runtime's library; a version may follow.
const ONNX_RUNTIME: &str = "libonnxruntime.so";
/// File name of XGBoost's library.
const XGBOOST: &str = "libxgboost.so";

/// A native part that is not where it is looked for.
#[derive(Debug, Error)]
pub enum NativeError {
    /// `ORT_DYLIB_PATH` names a file that is not there.
    #[error(
        "ORT_DYLIB_PATH names {0}, which is no file: correct it, or unset it and run scripts/setup.sh"
    )]
    Named(PathBuf),
    /// A part is in none of the folders searched.
    #[error("{what} ({file}) is missing: it was looked for in {places}; run scripts/setup.sh")]
    Missing {
        /// The part, as a message names it.
        what: &'static str,
        /// Its file's name.
        file: &'static str,
        /// The folders searched, as a message lists them.
        places: String,
    },
}

/// The library file of ONNX Runtime: what `ORT_DYLIB_PATH` names, or `libonnxruntime.so*` beside
/// the running executable or in the folder of native libraries.
///
/// # Errors
/// The library is in none of these places.
pub fn onnx_runtime() -> Result<PathBuf, NativeError> {
    if let Some(path) = variable("ORT_DYLIB_PATH") {
        return if path.is_file() {
            Ok(path)
        } else {
            Err(NativeError::Named(path))
        };
    }
    let mut folders = beside_executable();
    folders.extend(native_folder());
    folders
        .iter()
        .find_map(|folder| library(folder, ONNX_RUNTIME))
        .ok_or_else(|| missing("ONNX Runtime", ONNX_RUNTIME, &folders))
}

/// The training program, and the folder with the libraries that it needs. Without a known folder
/// the program has to find them by itself.
///
/// # Errors
/// The program is not beside the running executable.
pub fn trainer() -> Result<(PathBuf, Option<PathBuf>), NativeError> {
    let mut folders = beside_executable();
    let program = folders
        .iter()
        .map(|folder| folder.join(TRAINER))
        .find(|program| program.is_file())
        .ok_or_else(|| missing("the training program", TRAINER, &folders))?;
    folders.extend(native_folder());
    let libraries = folders
        .into_iter()
        .find(|folder| folder.join(XGBOOST).is_file());
    Ok((program, libraries))
}

/// The program `perennial`: the one beside the running executable, or that one itself.
pub fn program() -> PathBuf {
    let beside = beside_executable().into_iter();
    let mut programs = beside.map(|folder| folder.join(PROGRAM));
    let program = programs.find(|program| program.is_file());
    program.unwrap_or_else(|| env::current_exe().unwrap_or_default())
}

/// The folder of the running executable, and its parent if it is Cargo's `deps/`.
fn beside_executable() -> Vec<PathBuf> {
    let executable = env::current_exe().unwrap_or_default();
    let Some(folder) = executable.parent() else {
        return Vec::new();
    };
    let above = folder.parent().filter(|_| folder.ends_with("deps"));
    [Some(folder), above]
        .into_iter()
        .flatten()
        .map(Path::to_path_buf)
        .collect()
}

/// The folder of native libraries: `$PERENNIAL_NATIVE`, or else `perennial/native` in the user's
/// cache folder.
fn native_folder() -> Option<PathBuf> {
    variable("PERENNIAL_NATIVE").or_else(|| {
        let cache =
            variable("XDG_CACHE_HOME").or_else(|| variable("HOME").map(|home| home.join(".cache")));
        cache.map(|cache| cache.join("perennial/native"))
    })
}

/// The path in an environment variable, unless that is unset or empty.
fn variable(name: &str) -> Option<PathBuf> {
    env::var_os(name)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

/// The file called `name` in `folder`; otherwise the last by name of those that begin with it,
/// which is the newest version.
fn library(folder: &Path, name: &str) -> Option<PathBuf> {
    let exact = folder.join(name);
    if exact.is_file() {
        return Some(exact);
    }
    fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let file = path.file_name().and_then(|file| file.to_str());
            file.is_some_and(|file| file.starts_with(name)) && path.is_file()
        })
        .max()
}

/// The error for a part that is in none of `folders`.
fn missing(what: &'static str, file: &'static str, folders: &[PathBuf]) -> NativeError {
    let mut places = String::new();
    for (index, folder) in folders.iter().enumerate() {
        let separator = match index {
            0 => "",
            _ if index + 1 == folders.len() => " and ",
            _ => ", ",
        };
        // Writing to a String cannot fail.
        let _ = write!(places, "{separator}{}", folder.display());
    }
    NativeError::Missing { what, file, places }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_is_found_by_its_name_or_by_its_newest_version() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(library(folder.path(), ONNX_RUNTIME), None);
        for name in [
            "libonnxruntime.so.1.31.0",
            "libonnxruntime.so.1.32.0",
            "libxgboost.so",
        ] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let newest = folder.path().join("libonnxruntime.so.1.32.0");
        assert_eq!(library(folder.path(), ONNX_RUNTIME), Some(newest));
        let exact = folder.path().join(ONNX_RUNTIME);
        fs::write(&exact, "").unwrap();
        assert_eq!(library(folder.path(), ONNX_RUNTIME), Some(exact));
    }

    #[test]
    fn a_missing_part_is_named_with_all_places_searched() {
        let folders = [
            PathBuf::from("/a"),
            PathBuf::from("/b"),
            PathBuf::from("/c"),
        ];
        assert_eq!(
            missing("ONNX Runtime", ONNX_RUNTIME, &folders).to_string(),
            "ONNX Runtime (libonnxruntime.so) is missing: it was looked for in /a, /b and /c; \
             run scripts/setup.sh"
        );
    }
}
