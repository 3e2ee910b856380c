//! Places in a config file, for errors that name the line and the nearest valid name.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use perennial_connectors::schema::Problem;
use saphyr::Scalar;

/// Message about a number that must not be 0.
pub(super) const AT_LEAST_ONE: &str = "expected at least 1";

/// A config that cannot be used: what is wrong with it, and where.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {message}")]
pub struct ConfigError {
    /// `file:line`, or the override that is wrong.
    pub place: String,
    /// What is wrong, what was expected, and the nearest valid name.
    pub message: String,
}

/// The place of each value of a config: a line of the file, or an override.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    pub(super) file: PathBuf,
    pub(super) lines: BTreeMap<String, usize>,
    pub(super) overrides: Vec<String>,
    /// Values from the environment, which may be secret, and what errors show instead.
    pub(super) from_environment: Vec<(String, String)>,
}

impl Places {
    pub(super) fn new(file: &Path) -> Self {
        Places {
            file: file.to_path_buf(),
            lines: BTreeMap::new(),
            overrides: Vec::new(),
            from_environment: Vec::new(),
        }
    }

    /// The absolute path of the config file's folder.
    pub(super) fn folder(&self) -> std::io::Result<PathBuf> {
        let file = std::path::absolute(&self.file)?;
        Ok(file.parent().unwrap_or(&file).to_path_buf())
    }

    /// An error about the value at `path`, such as `tasks.path[1]`.
    pub(crate) fn error(&self, path: &str, message: impl Display) -> ConfigError {
        ConfigError {
            place: self.place(path),
            message: self.mask(&format!("{path}: {message}")),
        }
    }

    /// An error about a line of the file.
    pub(super) fn error_at(&self, line: usize, message: impl Display) -> ConfigError {
        ConfigError {
            place: format!("{}:{line}", self.file.display()),
            message: message.to_string(),
        }
    }

    /// Fails with an error about the value at `path` unless the condition `holds`.
    pub(super) fn require(
        &self,
        holds: bool,
        path: &str,
        message: impl Display,
    ) -> Result<(), ConfigError> {
        if holds {
            Ok(())
        } else {
            Err(self.error(path, message))
        }
    }

    /// Fails with the first of the problems that a connector found in its part of the config.
    pub(super) fn require_none(
        &self,
        problems: impl IntoIterator<Item = Problem>,
    ) -> Result<(), ConfigError> {
        match problems.into_iter().next() {
            Some((path, message)) => Err(self.error(&path, message)),
            None => Ok(()),
        }
    }

    /// The place of a value, or of the nearest part of the config that contains it.
    pub(super) fn place(&self, path: &str) -> String {
        let mut path = path;
        loop {
            if let Some(key) = self.overrides.iter().find(|key| *key == path) {
                return format!("--set {key}");
            }
            if let Some(line) = self.lines.get(path) {
                return format!("{}:{line}", self.file.display());
            }
            match path.rfind(['.', '[']) {
                Some(end) => path = &path[..end],
                None => return self.file.display().to_string(),
            }
        }
    }

    /// Remembers a value from the environment in every form that an error may show: as it is, with
    /// quotes escaped, and as the number that it stands for.
    pub(super) fn hide(&mut self, value: &str, name: &str) {
        let escaped = format!("{value:?}");
        let mut forms = vec![escaped[1..escaped.len() - 1].to_string(), value.to_string()];
        match Scalar::parse_from_cow(value.into()) {
            Scalar::Integer(number) => forms.push(number.to_string()),
            Scalar::FloatingPoint(number) => forms.push(number.to_string()),
            _ => {}
        }
        let shown = format!("${{{name}}}");
        for form in forms {
            if form.len() > 2 {
                self.from_environment.push((form, shown.clone()));
            }
        }
    }

    /// Replaces values from the environment by their variables.
    pub(super) fn mask(&self, text: &str) -> String {
        self.from_environment
            .iter()
            .fold(text.to_string(), |text, (value, shown)| {
                text.replace(value, shown)
            })
    }
}

/// The candidate most similar to `name`, if one is similar at all.
pub(super) fn nearest<'a>(name: &str, candidates: &[&'a str]) -> Option<&'a str> {
    candidates
        .iter()
        .map(|candidate| (strsim::jaro_winkler(name, candidate), *candidate))
        .filter(|(similarity, _)| *similarity > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// `; did you mean "…"?` with the candidate most similar to `name`; empty if none is similar.
pub(crate) fn did_you_mean(name: &str, candidates: &[&str]) -> String {
    nearest(name, candidates)
        .map(|near| format!("; did you mean \"{near}\"?"))
        .unwrap_or_default()
}
