//! Search for samples whose tasks have the number of another task.
//!
//! The number of a task is a 64-bit hash of its path, so whoever may produce samples can search for
//! two names with one number. Their samples would count as those of one task. So the sample of the
//! task that comes second is bad, where it is first met.

use std::hash::{BuildHasher, Hash, Hasher, RandomState};

use perennial_operators::{Level, TaskDefinition, TaskId, TaskLevels};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::format::fields::quote;
use crate::format::{Row, Value};

/// Bound on the paths and on the tasks that are remembered beside those of the knowledge base.
const MOST: usize = 1 << 20;

/// Numbers of tasks, each with a hash of the task's name without quotes that nobody can foresee.
#[derive(Debug)]
pub(super) struct TaskNumbers {
    /// Attributes of each level up to the first that is made of clusters: column and name.
    levels: Vec<Vec<(usize, String)>>,
    hashes: RandomState,
    /// Hashes of paths that were looked at.
    checked: FxHashSet<u64>,
    /// Tasks of the knowledge base when the run began.
    defined: FxHashMap<TaskId, u64>,
    /// Tasks that were met since.
    met: FxHashMap<TaskId, u64>,
}

impl TaskNumbers {
    /// The numbers of tasks at these levels, of which `tasks` are defined.
    pub(super) fn new(levels: &TaskLevels, tasks: &[TaskDefinition]) -> TaskNumbers {
        let attributes = levels.levels.iter().map_while(|level| match level {
            Level::Attributes(attributes) => Some(attributes.clone()),
            Level::Cluster(_) => None,
        });
        let hashes = RandomState::new();
        let number = |task: &TaskDefinition| (task.task, hashes.hash_one(task.bare_name()));
        TaskNumbers {
            levels: attributes.collect(),
            defined: tasks.iter().map(number).collect(),
            hashes,
            checked: FxHashSet::default(),
            met: FxHashMap::default(),
        }
    }

    /// Checks the tasks of a row, whose attributes are in these cells.
    ///
    /// # Errors
    /// One has the number of another task: the reason.
    pub(super) fn check(
        &mut self,
        row: &Row,
        cells: &[usize],
        scratch: &mut String,
    ) -> Result<(), String> {
        let mut hasher = self.hashes.build_hasher();
        for (column, _) in self.levels.iter().flatten() {
            row.get(cells[*column]).text(scratch).hash(&mut hasher);
        }
        let path = hasher.finish();
        if self.checked.contains(&path) {
            return Ok(());
        }
        let tasks = self.tasks(row, cells, scratch);
        for task in &tasks {
            let (number, hash) = (task.task, self.hashes.hash_one(task.bare_name()));
            let known = self.defined.get(&number).or_else(|| self.met.get(&number));
            if known.is_some_and(|known| *known != hash) {
                return Err(format!(
                    "its task {} has the number of another task ({number}), which came first",
                    quote(Value::Text(&task.name))
                ));
            }
        }
        if self.met.len() > MOST || self.checked.len() > MOST {
            self.met.clear();
            self.checked.clear();
        }
        for task in tasks {
            let hash = self.hashes.hash_one(task.bare_name());
            self.met.insert(task.task, hash);
        }
        self.checked.insert(path);
        Ok(())
    }

    /// The tasks of a row, as allocation defines them.
    fn tasks(&self, row: &Row, cells: &[usize], scratch: &mut String) -> Vec<TaskDefinition> {
        let mut task = TaskDefinition::base();
        let mut tasks = Vec::with_capacity(self.levels.len());
        for level in &self.levels {
            let mut values = Vec::with_capacity(level.len());
            for (column, name) in level {
                let value = row.get(cells[*column]).text(scratch);
                if !value.is_empty() {
                    values.push((name.clone(), value.to_string()));
                }
            }
            if !values.is_empty() {
                task = task.child(&values);
                tasks.push(task.clone());
            }
        }
        tasks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(site: &str, season: &str) -> Row {
        let mut row = Row::new(2);
        row.set_text(0, site);
        row.set_text(1, season);
        row
    }

    #[test]
    fn a_task_with_the_number_of_another_is_refused() {
        let level = |column: usize, name: &str| Level::Attributes(vec![(column, name.into())]);
        let levels = TaskLevels {
            levels: vec![level(1, "season"), level(0, "site")],
        };
        let value = |name: &str, value: &str| [(name.to_string(), value.to_string())];
        let dry = TaskDefinition::base().child(&value("season", "dry"));
        let (own, other) = (
            dry.child(&value("site", "a")),
            dry.child(&value("site", "b")),
        );
        // Two names with one number take minutes to find, so a task gets the number of another.
        let taken = TaskDefinition {
            task: other.task,
            ..dry.child(&value("site", "c"))
        };
        let mut numbers = TaskNumbers::new(&levels, &[dry, own, taken]);
        let mut scratch = String::new();
        let mut check = |site, season| numbers.check(&row(site, season), &[0, 1], &mut scratch);
        for _ in 0..2 {
            assert_eq!(check("a", "dry"), Ok(()));
            assert_eq!(check("b", "wet"), Ok(()));
            let reason = check("b", "dry").unwrap_err();
            assert!(
                reason.starts_with(r#"its task "season=dry > site=b" has the number"#),
                "{reason}"
            );
            assert_eq!(check("", "dry"), Ok(()));
        }
        assert_eq!((numbers.met.len(), numbers.checked.len()), (4, 3));
    }

    #[test]
    fn a_name_of_an_older_version_is_of_the_same_task() {
        let levels = TaskLevels {
            levels: vec![Level::Attributes(vec![(0, "site".into())])],
        };
        let own = TaskDefinition::base().child(&[("site".into(), "a,b".into())]);
        let old = TaskDefinition {
            name: "site=a,b".into(),
            ..own.clone()
        };
        assert_ne!(own.name, old.name);
        let mut numbers = TaskNumbers::new(&levels, &[old]);
        let checked = numbers.check(&row("a,b", ""), &[0, 1], &mut String::new());
        assert_eq!(checked, Ok(()));
    }
}
