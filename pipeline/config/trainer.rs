//! The command that fits models in the place of the built-in trainer.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use perennial_connectors::trainer::CommandLine;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::condition::{duration, size};
use super::{ConfigError, ConfigFile};

/// The longest timeout, in seconds: a hundred years.
const LONGEST: f64 = 36_525.0 * 86_400.0;

/// A command that fits models: it is given samples, and leaves an ONNX model.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainerConfig {
    /// The program and its arguments; the path of the request follows them. No shell reads it. What names a file in
    /// the config's folder, or relative to it, is that file.
    pub command: Vec<String>,
    /// How long a training may take, such as `90s`, `10m`; then it is killed.
    #[serde(default = "default_timeout")]
    pub timeout: String,
    /// The most memory that each process of the command may address, such as `512 MiB`, `2 GiB`. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
}

fn default_timeout() -> String {
    "10m".to_string()
}

/// Checks the section, if there is one.
pub(super) fn command_line(loaded: &ConfigFile) -> Result<Option<CommandLine>, ConfigError> {
    let Some(trainer) = &loaded.config.training.trainer else {
        return Ok(None);
    };
    let wrong =
        |key: &str, message: String| loaded.error(&format!("training.trainer.{key}"), message);
    let folder = loaded
        .folder()
        .map_err(|error| wrong("command", format!("there is no working directory: {error}")))?;
    let mut words = trainer.command.iter().map(|word| resolved(&folder, word));
    let (Some(name), Some(program)) = (trainer.command.first(), words.next()) else {
        return Err(wrong("command", "expected a program".to_string()));
    };
    if !is_there(&program) {
        let places = match name.contains('/') {
            true => folder.display().to_string(),
            false => format!("{} or on the PATH", folder.display()),
        };
        let message = format!("there is no program \"{name}\" in {places}");
        return Err(wrong("command[0]", message));
    }
    let seconds = duration(&trainer.timeout).map_err(|message| wrong("timeout", message))?;
    if !(0.001..=LONGEST).contains(&seconds) {
        let message = "expected a duration above 0 and below a hundred years".to_string();
        return Err(wrong("timeout", message));
    }
    let memory = match &trainer.memory {
        None => None,
        Some(text) => Some(size(text).map_err(|message| wrong("memory", message))?),
    };
    if memory.is_some_and(|bytes| bytes < 1_048_576.0) {
        return Err(wrong("memory", "expected at least 1 MiB".to_string()));
    }
    Ok(Some(CommandLine {
        arguments: words.collect(),
        program,
        timeout: Duration::from_secs_f64(seconds),
        memory: memory.map(|bytes| bytes as u64),
    }))
}

/// A word of the command: the path of a file that it names, seen from the config's folder, or else the word itself.
fn resolved(folder: &Path, word: &str) -> OsString {
    let path = folder.join(word);
    if path.is_file() {
        path.into()
    } else {
        word.into()
    }
}

/// Whether a program is a file, or the name of one on the PATH.
fn is_there(program: &OsString) -> bool {
    let path = Path::new(program);
    if path.components().count() > 1 {
        return path.is_file();
    }
    let places = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&places).any(|folder| folder.join(path).is_file())
}
