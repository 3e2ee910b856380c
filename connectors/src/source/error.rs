//! Errors of a source as a whole.

use std::path::Path;

use thiserror::Error;

/// Least similarity of a name that an error suggests.
const SIMILAR: f64 = 0.7;

/// Columns that an error lists at most.
const LISTED: usize = 40;

/// Why a source cannot be opened or read any further. A single bad record is a dead letter and no
/// error.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SourceError {
    /// The file does not exist.
    #[error("the file {path} does not exist: {hint}")]
    NotFound {
        /// The file.
        path: String,
        /// What to do.
        hint: String,
    },
    /// The file exists but cannot be opened or understood.
    #[error("the file {path} cannot be opened: {reason}")]
    Open {
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// The file has no content at all.
    #[error("the file {path} is empty: {hint}")]
    Empty {
        /// The file.
        path: String,
        /// What to do.
        hint: String,
    },
    /// Neither the name nor the settings give the format.
    #[error(
        "the format of the file {path} is unknown: set `format` to csv, jsonl or parquet, or name the \
         file .csv, .jsonl, .csv.gz, .jsonl.gz or .parquet"
    )]
    Format {
        /// The file.
        path: String,
    },
    /// The file lacks columns that the schema names.
    #[error("the file {path} lacks {missing}; it has {found}: {hint}")]
    Columns {
        /// The file.
        path: String,
        /// The missing columns.
        missing: String,
        /// The columns of the file.
        found: String,
        /// The nearest names, or what to do.
        hint: String,
    },
    /// The file cannot be read to its end.
    #[error("the file {path} cannot be read beyond record {record}: {reason}")]
    Broken {
        /// The file.
        path: String,
        /// Number of records before the failure.
        record: u64,
        /// What is wrong.
        reason: String,
    },
    /// The source has fewer records than an earlier run has read.
    #[error(
        "{source_name} has only {count} records, but {position} of it were read before: bring back the \
         former input, or start with an empty knowledge base"
    )]
    Shorter {
        /// The file or simulator.
        source_name: String,
        /// Records that an earlier run has read.
        position: u64,
        /// Records of the source.
        count: u64,
    },
    /// A skip to an earlier position.
    #[error("{source_name} is at record {at} and cannot go back to {position}: open it anew")]
    Backwards {
        /// The file or simulator.
        source_name: String,
        /// Records read so far.
        at: u64,
        /// The requested position.
        position: u64,
    },
    /// A setting that cannot be used.
    #[error("the setting `{key}` cannot be used: {reason}")]
    Setting {
        /// The key path in the configuration.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl SourceError {
    /// The error for a file that does not exist, with the nearest name in its folder.
    pub(super) fn not_found(path: &Path) -> SourceError {
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let name = path
            .file_name()
            .map(|n| n.to_string_lossy().into_owned())
            .unwrap_or_default();
        let hint = match std::fs::read_dir(folder) {
            Err(_) => format!("its folder {} does not exist either", folder.display()),
            Ok(entries) => {
                let names = entries
                    .flatten()
                    .map(|e| e.file_name().to_string_lossy().into_owned());
                match nearest(&name, names) {
                    Some(near) => format!("did you mean {}?", folder.join(near).display()),
                    None if path.is_relative() => {
                        "relative paths start at the working directory".into()
                    }
                    None => "check the path".into(),
                }
            }
        };
        SourceError::NotFound {
            path: path.display().to_string(),
            hint,
        }
    }

    /// The error for a header that lacks some of the wanted columns.
    pub(super) fn columns(path: &str, missing: &[&str], found: &[String]) -> SourceError {
        let hints: Vec<String> = missing
            .iter()
            .filter_map(|m| {
                nearest(m, found.iter().cloned()).map(|near| format!("{near:?} for {m:?}"))
            })
            .collect();
        let hint = if !hints.is_empty() {
            format!("did you mean {}?", hints.join(", "))
        } else if let [only] = found
            && only.contains([';', '\t', '|'])
        {
            "columns must be separated by commas".into()
        } else {
            "rename the columns in the schema or in the file".into()
        };
        let plural = if missing.len() == 1 {
            "column"
        } else {
            "columns"
        };
        let mut listed: Vec<String> = found
            .iter()
            .take(LISTED)
            .map(|f| format!("{f:?}"))
            .collect();
        if found.len() > LISTED {
            listed.push(format!("and {} more", found.len() - LISTED));
        }
        if listed.is_empty() {
            listed.push("no columns".into());
        }
        let missing: Vec<String> = missing.iter().map(|m| format!("{m:?}")).collect();
        SourceError::Columns {
            path: path.into(),
            missing: format!("the {plural} {}", missing.join(", ")),
            found: listed.join(", "),
            hint,
        }
    }
}

/// The candidate most similar to `name`, if it is similar enough for a suggestion.
fn nearest(name: &str, candidates: impl Iterator<Item = String>) -> Option<String> {
    let lower = name.to_lowercase();
    candidates
        .map(|c| (strsim::jaro_winkler(&lower, &c.to_lowercase()), c))
        .filter(|(similarity, _)| *similarity >= SIMILAR)
        .max_by(|a, b| a.0.total_cmp(&b.0).then_with(|| b.1.cmp(&a.1)))
        .map(|(_, candidate)| candidate)
}
