//! Section `training.trainer`: a command that fits models instead of the built-in trainer.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use perennial_connectors::trainer::CommandLine;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ConfigError;
use super::condition::{limit, size};
use super::places::Places;

/// A command that fits models: it reads samples and writes an ONNX model.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainerConfig {
    /// Program and arguments; the path of the request is added as the last argument. No shell
    /// interprets them. A word that names a file, seen from the config's folder, becomes its path.
    pub command: Vec<String>,
    /// Longest time of a training, such as `90s`, `10m`; after it the command is killed.
    #[serde(default = "default_timeout")]
    pub timeout: String,
    /// Memory that each process of the command may address, such as `512 MiB`, `2 GiB`. Default: no
    /// limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
}

fn default_timeout() -> String {
    "10m".to_string()
}

impl TrainerConfig {
    /// The command with its files and limits.
    pub(super) fn command_line(&self, places: &Places) -> Result<CommandLine, ConfigError> {
        let wrong =
            |key: &str, message: String| places.error(&format!("training.trainer.{key}"), message);
        let folder = places
            .folder()
            .map_err(|error| wrong("command", format!("there is no working directory: {error}")))?;
        let mut words = self.command.iter().map(|word| resolve(&folder, word));
        let (Some(name), Some(program)) = (self.command.first(), words.next()) else {
            return Err(wrong("command", "expected a program".to_string()));
        };
        if !exists(&program) {
            let searched = if name.contains('/') {
                folder.display().to_string()
            } else {
                format!("{} or on the PATH", folder.display())
            };
            let message = format!("there is no program \"{name}\" in {searched}");
            return Err(wrong("command[0]", message));
        }
        let timeout = limit(&self.timeout).map_err(|message| wrong("timeout", message))?;
        let memory = match &self.memory {
            None => None,
            Some(text) => Some(size(text).map_err(|message| wrong("memory", message))?),
        };
        if memory.is_some_and(|bytes| bytes < 1_048_576.0) {
            return Err(wrong("memory", "expected at least 1 MiB".to_string()));
        }
        Ok(CommandLine {
            arguments: words.collect(),
            program,
            timeout,
            memory: memory.map(|bytes| bytes as u64),
        })
    }
}

/// The path of the file that a word names, seen from the config's folder, or else the word itself.
fn resolve(folder: &Path, word: &str) -> OsString {
    let path = folder.join(word);
    if path.is_file() {
        path.into()
    } else {
        word.into()
    }
}

/// Whether a program is a file, or the name of one on the PATH.
fn exists(program: &OsStr) -> bool {
    let path = Path::new(program);
    if path.components().count() > 1 {
        return path.is_file();
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders).any(|folder| folder.join(path).is_file())
}
