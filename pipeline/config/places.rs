//! Places in a config file, for errors that name the line and the nearest valid name.

use std::collections::BTreeMap;
use std::path::Path;

use saphyr::Scalar;

/// What is wrong with a config, and where.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {message}")]
pub struct ConfigError {
    /// `file:line` or the override that is to blame.
    pub place: String,
    /// What is wrong, what was expected, the nearest valid name.
    pub message: String,
}

/// Where values come from: a line of the file, or an override.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places {
    pub(super) lines: BTreeMap<String, usize>,
    pub(super) overrides: Vec<String>,
    /// Values that came from the environment, which may be secret, and what to show instead.
    pub(super) from_environment: Vec<(String, String)>,
}

impl Places {
    /// The place of a value, or of the nearest part of the config that holds it.
    pub(crate) fn place(&self, file: &Path, path: &str) -> String {
        let mut path = path;
        loop {
            if let Some(key) = self.overrides.iter().find(|key| *key == path) {
                return format!("--set {key}");
            }
            if let Some(line) = self.lines.get(path) {
                return format!("{}:{line}", file.display());
            }
            match path.rfind(['.', '[']) {
                Some(end) => path = &path[..end],
                None => return file.display().to_string(),
            }
        }
    }

    /// Notes a value from the environment in all forms in which an error may show it: as it is, with
    /// quotes escaped, and as the number that it stands for.
    pub(crate) fn hide(&mut self, value: &str, name: &str) {
        let escaped = format!("{value:?}");
        let mut forms = vec![escaped[1..escaped.len() - 1].to_string(), value.to_string()];
        match Scalar::parse_from_cow(value.into()) {
            Scalar::Integer(number) => forms.push(number.to_string()),
            Scalar::FloatingPoint(number) => forms.push(number.to_string()),
            _ => {}
        }
        let shown = format!("${{{name}}}");
        let forms = forms.into_iter().filter(|form| form.len() > 2);
        self.from_environment
            .extend(forms.map(|form| (form, shown.clone())));
    }

    pub(crate) fn mask(&self, text: &str) -> String {
        let mut text = text.to_string();
        for (value, shown) in &self.from_environment {
            text = text.replace(value, shown);
        }
        text
    }
}

/// The candidate most like `name`, if any is like it at all.
pub(super) fn nearest<'a>(name: &str, candidates: &[&'a str]) -> Option<&'a str> {
    candidates
        .iter()
        .map(|candidate| (strsim::jaro_winkler(name, candidate), *candidate))
        .filter(|(similarity, _)| *similarity > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}
