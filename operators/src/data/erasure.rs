//! Erasure: which tasks, and the samples of which site, are to be forgotten.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::task::{TaskDefinition, TaskId};

/// Separator of the levels in a task's name.
const BELOW: &str = " > ";

/// What is to be forgotten. All tasks below a forgotten one are forgotten too.
///
/// ```
/// use perennial_operators::{Erasure, ErasedSite, TaskDefinition};
///
/// let hot = TaskDefinition::base().child(&[("season".into(), "hot".into())]);
/// let room = |number: &str| hot.child(&[("room".into(), number.into())]);
/// let mut erasure = Erasure::default();
/// erasure.site = Some(ErasedSite { column: "room".into(), value: "r1".into() });
/// assert!(erasure.covers(&room("r1")) && !erasure.covers(&room("r12")));
/// erasure.add(&hot);
/// assert!(erasure.covers(&room("r12")) && !erasure.covers(&TaskDefinition::base()));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erasure {
    /// Forgotten tasks.
    pub tasks: BTreeSet<TaskId>,
    /// Their names.
    pub names: BTreeSet<String>,
    /// A forgotten site, whatever the tasks of its samples.
    pub site: Option<ErasedSite>,
}

/// A site that is to be forgotten.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErasedSite {
    /// Name of the column of sites.
    pub column: String,
    /// The site.
    pub value: String,
}

impl Erasure {
    /// Adds a task.
    pub fn add(&mut self, task: &TaskDefinition) {
        self.tasks.insert(task.task);
        self.names.insert(task.name.to_string());
    }

    /// Whether a task is forgotten.
    pub fn covers(&self, task: &TaskDefinition) -> bool {
        let name = &*task.name;
        let above = name.match_indices(BELOW).map(|(at, _)| &name[..at]);
        self.tasks.contains(&task.task)
            || above.chain([name]).any(|name| self.names.contains(name))
            || self.site.as_ref().is_some_and(|site| site.is_in(name))
    }

    /// Whether a task of a path is forgotten.
    pub fn covers_path(&self, path: &[TaskDefinition]) -> bool {
        path.iter().any(|task| self.covers(task))
    }

    /// Whether the samples of a site are forgotten.
    pub fn covers_site(&self, site: &str) -> bool {
        self.site
            .as_ref()
            .is_some_and(|erased| erased.value == site)
    }

    /// The text without names of forgotten tasks; none if it has none of them.
    pub fn redact(&self, text: &str) -> Option<String> {
        // Every name has the sign; few texts do.
        if !text.contains('=') {
            return None;
        }
        // A name comes before those that it is the beginning of.
        let names = self.names.iter().rev().filter(|name| text.contains(*name));
        let redacted = names.fold(text.to_string(), |text, name| {
            text.replace(name, "a forgotten task")
        });
        (redacted != text).then_some(redacted)
    }
}

impl ErasedSite {
    /// Whether the name of a task has the site as one of its values.
    fn is_in(&self, name: &str) -> bool {
        let own = format!("{}={}", self.column, self.value);
        name.match_indices(&own).any(|(at, _)| {
            let (before, after) = (&name[..at], &name[at + own.len()..]);
            let begins = before.is_empty() || before.ends_with(BELOW) || before.ends_with(", ");
            let ends = after.is_empty() || after.starts_with(BELOW) || after.starts_with(", ");
            begins && ends
        })
    }
}

/// Tasks were forgotten. Neither their names nor their numbers are kept.
///
/// Stored as [`KnowledgeChange::Forgotten`](crate::flow::KnowledgeChange::Forgotten).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forgotten {
    /// Number of tasks.
    pub tasks: u64,
    /// Number of their retained samples.
    pub samples: u64,
    /// Number of changes that were removed.
    pub changes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_out_of_texts() {
        let base = TaskDefinition::base();
        let mut erasure = Erasure::default();
        let room = base.child(&[("room".to_string(), "r1".to_string())]);
        erasure.add(&room);
        erasure.add(&room.child(&[("desk".to_string(), "d".to_string())]));
        let text = "room=r1 > desk=d would get worse by 0.1";
        let redacted = erasure.redact(text);
        assert_eq!(
            redacted.as_deref(),
            Some("a forgotten task would get worse by 0.1")
        );
        assert_eq!(erasure.redact("room=r2 would get worse"), None);
        assert_eq!(erasure.redact("400 samples"), None);
    }
}
