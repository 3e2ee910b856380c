//! The text of a config.

use std::fmt::Write;

use perennial_connectors::source::{ColumnProfile, Profile};

use super::InitSource;
use super::label::{LabelDraft, sorted};
use super::roles::ColumnRoles;

/// Bound on the tasks of a level of attributes.
const MOST_TASKS: usize = 50;
/// Bound on the mean number of values at a site of an attribute that counts as constant there.
const CONSTANT: f64 = 1.2;
/// Share of a file's records that the first models are trained on.
const SHARE: f64 = 0.2;
/// Number of messages that the first models are trained on.
const FIRST_MESSAGES: u64 = 1_000;
/// Labels after which a training starts, by default.
const DEFAULT_TRIGGER: u64 = 1_000;
/// Number of trainings that a short file is to have.
const TRAININGS: u64 = 10;
/// Width of a line of values.
const WIDTH: usize = 100;

/// A config to be written.
pub(super) struct Draft<'a> {
    pub(super) samples: &'a InitSource<'a>,
    pub(super) found: &'a Profile,
    pub(super) roles: &'a ColumnRoles<'a>,
    /// The mean number of values that each attribute has at one site.
    pub(super) within_site: Vec<f64>,
}

impl Draft<'_> {
    /// The text of the config, with comments.
    pub(super) fn text(&self) -> String {
        let (records, more) = (
            self.found.records,
            if self.found.has_more { "first " } else { "" },
        );
        let from = match self.samples {
            InitSource::File(path) => format!("the {more}{records} records of {}", path.display()),
            InitSource::Topic { topic, .. } => format!("the {more}{records} messages of {topic}"),
        };
        [
            format!("# Written by perennial init, from {from}. `perennial schema` has all keys.\n"),
            format!("name: {}\n", self.name()),
            self.source(),
            self.schema(),
            self.tasks(),
            self.learning(),
        ]
        .join("\n")
    }

    /// The pipeline's name: that of the file or topic.
    fn name(&self) -> String {
        let whole = match self.samples {
            InitSource::File(path) => path
                .file_name()
                .map(|name| name.to_string_lossy().into_owned()),
            InitSource::Topic { topic, .. } => Some((*topic).to_string()),
        };
        let whole = whole.unwrap_or_default();
        let stem = match self.samples {
            InitSource::File(_) => whole.split('.').next().unwrap_or_default(),
            InitSource::Topic { .. } => &whole,
        };
        let letters = stem.chars().map(|letter| match letter {
            letter if letter.is_ascii_alphanumeric() || "-_.".contains(letter) => letter,
            _ => '-',
        });
        let name: String = letters.collect();
        match name.trim_matches(['-', '.']) {
            "" => "pipeline".to_string(),
            name => scalar(name),
        }
    }

    /// The section `source`.
    pub(super) fn source(&self) -> String {
        match self.samples {
            InitSource::File(path) => {
                format!("source:\n  path: {}\n", scalar(&path.display().to_string()))
            }
            InitSource::Topic { topic, brokers, .. } => format!(
                "mode: live\n\nkafka:\n  brokers: {}\n\nsource:\n  kafka:\n    topic: {}\n",
                scalar(brokers),
                scalar(topic)
            ),
        }
    }

    /// The section `schema`.
    pub(super) fn schema(&self) -> String {
        let roles = self.roles;
        let mut text = "schema:\n".to_string();
        let sites = match roles.site.values.len() {
            1 => "one value throughout".to_string(),
            count if roles.site.has_more => format!("more than {count} values"),
            count => format!("{count} values"),
        };
        for (key, column, about) in [
            ("id", roles.id, "no two samples have the same"),
            ("time", roles.time, "when the sample was taken"),
            ("site", roles.site, &*sites),
        ] {
            let _ = writeln!(text, "  {key}: {} # {about}", scalar(&column.name));
        }
        if !roles.attributes.is_empty() {
            let names = list(
                roles.attributes.iter().map(|column| column.name.as_str()),
                4,
            );
            let _ = writeln!(
                text,
                "  # What can tell tasks apart, beside the site.\n  attributes:{names}"
            );
        }
        text.push_str(
            "  # What models see. Remove what is not known yet when the prediction is made.\n  features:\n",
        );
        for column in &roles.numeric {
            let _ = writeln!(text, "    - {}", scalar(&column.name));
        }
        for column in &roles.categorical {
            let values = list(sorted(column).iter().map(String::as_str), 8);
            let name = scalar(&column.name);
            let _ = writeln!(text, "    - column: {name}\n      values:{values}");
        }
        let (label, kind) = &roles.label;
        let _ = writeln!(
            text,
            "  # What is predicted.\n  label:\n    column: {}",
            scalar(&label.name)
        );
        match kind {
            LabelDraft::Number => text.push_str("    kind: number\n"),
            LabelDraft::Classes(classes) => {
                let classes = list(classes.iter().map(String::as_str), 6);
                let _ = writeln!(text, "    classes:{classes}");
            }
        }
        if !roles.left_out.is_empty() {
            text.push_str("# Not used:\n");
            for (column, reason) in &roles.left_out {
                let _ = writeln!(text, "#   {}: {reason}", scalar(&column.name));
            }
        }
        text
    }

    fn tasks(&self) -> String {
        let (level, others) = self.levels();
        let names = |columns: &[&ColumnProfile]| {
            let names: Vec<String> = columns.iter().map(|column| scalar(&column.name)).collect();
            names.join(", ")
        };
        let above = if level.is_empty() {
            String::new()
        } else {
            format!("[{}], ", names(&level))
        };
        let site = scalar(&self.roles.site.name);
        let mut text = "# Every task gets a model of its own where that predicts better than the one above it.\n\
                        tasks:\n"
            .to_string();
        if !others.is_empty() {
            let _ = writeln!(
                text,
                "  # These change within one site: {}. Add a level of those, as of seasons,\n  \
                 # in which the same values mean something else.",
                names(&others)
            );
        }
        let _ = writeln!(text, "  path: [{above}[{site}]]");
        text
    }

    /// Attributes that tell groups of sites apart, and the others.
    fn levels(&self) -> (Vec<&ColumnProfile>, Vec<&ColumnProfile>) {
        let attributes = self.roles.attributes.iter().copied().zip(&self.within_site);
        let (mut groups, mut others) = (Vec::new(), Vec::new());
        for (column, within) in attributes {
            if *within <= CONSTANT {
                groups.push(column);
            } else {
                others.push(column);
            }
        }
        // Each combination is a task, and too many of them have too few samples.
        groups.sort_by_key(|column| column.values.len());
        let mut tasks = 1;
        groups.retain(|column| {
            tasks *= column.values.len().max(1);
            tasks <= MOST_TASKS
        });
        (groups, others)
    }

    /// The bootstrap, the labels' delay, the triggers and the outputs.
    fn learning(&self) -> String {
        let labelled = self.roles.label.0.filled;
        let mut text = "# What comes first, which first models are trained on.\n".to_string();
        text.push_str(&match self.samples {
            InitSource::File(_) => format!("bootstrap:\n  share: {SHARE}\n"),
            InitSource::Topic { .. } => format!("bootstrap:\n  records: {FIRST_MESSAGES}\n"),
        });
        text.push_str(
            "\n# A label is known as soon as its sample was predicted. If it comes later, say when:\n\
             # labels:\n#   delay: {seconds: 3600}\n",
        );
        if matches!(self.samples, InitSource::File(_)) {
            text.push_str(&self.pace(labelled));
        }
        text.push_str("\n# predictions:\n#   path: predictions.jsonl\n");
        if matches!(self.samples, InitSource::File(_)) {
            text.push_str(
                "\n# The report compares with the first model left as it was, and with one model for all.\n\
                 report:\n  baselines: [frozen, single]\n",
            );
        }
        text
    }

    /// The epochs of a file, and its trigger if it is short.
    fn pace(&self, labelled: u64) -> String {
        let trigger = (labelled / TRAININGS).max(50);
        if self.found.has_more || trigger >= DEFAULT_TRIGGER {
            let records = epoch_records(DEFAULT_TRIGGER);
            return format!(
                "\n# Models change between epochs, and triggers are looked at there.\nepoch:\n  records: {records}\n"
            );
        }
        format!(
            "\n# A short stream: look at it often, and train early.\n\
             epoch:\n  records: {}\ntriggers:\n  when: ['new_samples >= {trigger}']\n",
            epoch_records(trigger),
        )
    }
}

/// Records in an epoch of a stream whose tasks are trained again after so many new samples. Models
/// change between epochs, and triggers are looked at there alone.
pub(in crate::commands) fn epoch_records(trigger: u64) -> u64 {
    (trigger / 4).clamp(8, 256)
}

/// A list after a key: in its line, or with a line for each value, `indent` columns from the left.
fn list<'a>(values: impl Iterator<Item = &'a str>, indent: usize) -> String {
    let values: Vec<String> = values.map(scalar).collect();
    let line = format!(" [{}]", values.join(", "));
    if line.len() + indent <= WIDTH {
        return line;
    }
    let item = format!("\n{}- ", " ".repeat(indent));
    values
        .iter()
        .map(|value| format!("{item}{value}"))
        .collect()
}

/// A text as a value in YAML, in quotes if it could be taken for anything else.
pub(in crate::commands) fn scalar(text: &str) -> String {
    let mut letters = text.chars();
    let begins_plain = letters
        .next()
        .is_some_and(|letter| letter.is_alphabetic() || "_/".contains(letter));
    let is_plain = begins_plain
        && !text.ends_with(' ')
        && letters.all(|letter| letter.is_alphanumeric() || "_-./ ".contains(letter));
    let is_word = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"]
        .iter()
        .any(|word| text.eq_ignore_ascii_case(word));
    // ".inf" and ".nan" begin with a point, numbers with a digit or a sign.
    if is_plain && !is_word {
        text.to_string()
    } else {
        serde_json::Value::from(text).to_string()
    }
}

#[cfg(test)]
mod tests {
    use saphyr::LoadableYamlNode;

    use super::*;

    #[test]
    fn scalars_stay_texts() {
        for text in [
            "room",
            "a b",
            "5",
            "-1",
            "1e3",
            "no",
            "NULL",
            "",
            " x",
            "a: b",
            "#",
            "[x]",
            "ü",
            "\"q\"",
            "2024-01-01",
            "x\ny",
            "~",
            "@a",
            "%",
            "a #b",
            "x:",
        ] {
            let written = format!("key: {}", scalar(text));
            let read = saphyr::Yaml::load_from_str(&written).unwrap();
            assert_eq!(read[0]["key"].as_str(), Some(text), "{written}");
        }
    }
}
