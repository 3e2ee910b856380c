//! The sequence of tasks, and the samples of each for training and for testing.

use perennial_operators::{Level, priority};
use serde::Serialize;

use super::samples::Samples;
use crate::config::{ConfigError, Settings, find_attribute};
use crate::error::Error;

/// A task with fewer test samples is left out, since the standard error of its accuracy could be
/// above 0.09.
const MIN_TESTED: usize = 30;

/// The maximum number of tasks. All are tested after each, which takes time by their square.
const MAX_TASKS: usize = 200;

/// What the tasks are made of, in the order of their arrival.
#[derive(Clone, Debug)]
pub enum Sequence {
    /// The values of attributes, in order of first appearance: column and name of each.
    Attributes(Vec<(usize, String)>),
    /// This number of time slices of one length.
    Slices(u32),
}

/// A task of the sequence.
#[derive(Debug)]
pub struct Task {
    /// Name of the task.
    pub name: String,
    /// Rows for training, in the order of the stream.
    pub train: Vec<usize>,
    /// Rows for testing, in the same order; nothing is ever learned from them.
    pub test: Vec<usize>,
}

/// A task that is too small for the sequence.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LeftOut {
    /// Name of the task.
    pub task: String,
    /// Number of its labelled samples.
    pub samples: usize,
}

/// The tasks in the order of the sequence.
#[derive(Debug)]
pub struct Plan {
    /// At least two tasks, each with samples for training and testing.
    pub tasks: Vec<Task>,
    /// Tasks with too few samples.
    pub left_out: Vec<LeftOut>,
    /// Number of labelled samples of no task: none of the attributes has a value.
    pub without: usize,
}

impl Sequence {
    /// The sequence of `attributes`, separated by commas, or of `slices`, or else of the first
    /// level of the task tree.
    pub fn new(
        settings: &Settings,
        attributes: Option<&str>,
        slices: Option<u32>,
    ) -> Result<Sequence, ConfigError> {
        if let Some(slices) = slices {
            return Ok(Sequence::Slices(slices));
        }
        let Some(names) = attributes else {
            return match settings.levels.levels.first() {
                Some(Level::Attributes(level)) => Ok(Sequence::Attributes(level.clone())),
                Some(Level::Cluster(_)) => Err(settings.loaded.error(
                    "tasks.path[0]",
                    "clusters are found as the stream goes on, and are no tasks that could arrive one \
                     after another: give --sequence or --slices",
                )),
                None => Err(settings.loaded.error(
                    "tasks.path",
                    "there is no level whose tasks could arrive one after another: give --sequence or \
                     --slices",
                )),
            };
        };
        let wrong = |message| ConfigError {
            place: "--sequence".to_string(),
            message,
        };
        let mut columns: Vec<(usize, String)> = Vec::new();
        for name in names.split(',').map(str::trim) {
            let column = find_attribute(&settings.schema, name).map_err(wrong)?;
            if columns.iter().any(|(known, _)| *known == column) {
                return Err(wrong(format!("\"{name}\" is named twice")));
            }
            columns.push((column, name.to_string()));
        }
        Ok(Sequence::Attributes(columns))
    }

    /// Assigns samples to tasks. Returns the number of each sample's task, if it has one, and the
    /// names of the tasks.
    fn assign(&self, samples: &Samples) -> (Vec<Option<usize>>, Vec<String>) {
        match self {
            Sequence::Attributes(columns) => assign_by_attributes(samples, columns),
            Sequence::Slices(slices) => assign_by_time(samples, *slices),
        }
    }
}

impl std::fmt::Display for Sequence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Sequence::Attributes(columns) => {
                let names: Vec<&str> = columns.iter().map(|(_, name)| name.as_str()).collect();
                f.write_str(&names.join(", "))
            }
            Sequence::Slices(slices) => write!(f, "{slices} slices of time"),
        }
    }
}

fn assign_by_attributes(
    samples: &Samples,
    columns: &[(usize, String)],
) -> (Vec<Option<usize>>, Vec<String>) {
    let mut names: Vec<String> = Vec::new();
    let mut known = rustc_hash::FxHashMap::default();
    let assigned = (0..samples.len()).map(|row| {
        let codes: Vec<u32> = columns
            .iter()
            .map(|(column, _)| samples.attributes[*column][row])
            .collect();
        *known.entry(codes).or_insert_with(|| {
            // A missing value is left out, as in the names of the pipeline's own tasks.
            let parts: Vec<String> = columns
                .iter()
                .map(|(column, name)| (name, samples.attribute(*column, row)))
                .filter(|(_, value)| !value.is_empty())
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            let task = (!parts.is_empty()).then_some(names.len());
            names.extend(task.map(|_| parts.join(", ")));
            task
        })
    });
    let assigned = assigned.collect();
    (assigned, names)
}

fn assign_by_time(samples: &Samples, slices: u32) -> (Vec<Option<usize>>, Vec<String>) {
    let first = samples.times.iter().copied().min().unwrap_or_default();
    let last = samples.times.iter().copied().max().unwrap_or_default();
    // The last moment belongs to the last slice.
    let span = i128::from(last) - i128::from(first) + 1;
    let slice = |time: i64| {
        let since = i128::from(time) - i128::from(first);
        Some((since * i128::from(slices) / span) as usize)
    };
    let assigned = samples.times.iter().map(|time| slice(*time)).collect();
    let names = (1..=slices).map(|number| format!("slice {number}"));
    (assigned, names.collect())
}

/// Whether a sample is for testing: a quarter of all are, chosen by a hash of the sample's number
/// and the seed.
fn is_tested(number: u64, seed: u64) -> bool {
    priority(number ^ priority(seed)) >> 62 == 0
}

impl Plan {
    /// Assigns the samples of a stream to the tasks of a sequence.
    pub fn new(
        settings: &Settings,
        samples: &Samples,
        sequence: &Sequence,
        seed: u64,
    ) -> Result<Plan, Error> {
        let (assigned, names) = sequence.assign(samples);
        let mut tasks: Vec<Task> = names
            .into_iter()
            .map(|name| Task {
                name,
                train: Vec::new(),
                test: Vec::new(),
            })
            .collect();
        let mut without = 0;
        for (row, task) in assigned.into_iter().enumerate() {
            match task {
                Some(task) if is_tested(samples.numbers[row], seed) => tasks[task].test.push(row),
                Some(task) => tasks[task].train.push(row),
                None => without += 1,
            }
        }
        let is_large =
            |task: &Task| task.test.len() >= MIN_TESTED && task.train.len() >= MIN_TESTED;
        let (tasks, small): (Vec<Task>, Vec<Task>) = tasks.into_iter().partition(is_large);
        let count = tasks.len();
        if count < 2 {
            let message = format!(
                "an evaluation needs two tasks with {MIN_TESTED} test samples each, and {sequence} makes \
                 {count} of {} labelled samples: choose others by --sequence or --slices",
                samples.len()
            );
            return Err(settings.loaded.error("source", message).into());
        }
        if count > MAX_TASKS {
            let message = format!(
                "{sequence} makes {count} tasks, and each is tested after each, so that {MAX_TASKS} is \
                 the most: choose a coarser attribute by --sequence, or --slices"
            );
            return Err(settings.loaded.error("source", message).into());
        }
        let left_out = small
            .into_iter()
            .map(|task| LeftOut {
                samples: task.train.len() + task.test.len(),
                task: task.name,
            })
            .filter(|left| left.samples > 0);
        Ok(Plan {
            tasks,
            left_out: left_out.collect(),
            without,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_is_tested_whatever_the_seed() {
        for seed in 0..20 {
            let tested = (0..10_000)
                .filter(|number| is_tested(*number, seed))
                .count();
            // Four standard deviations.
            assert!((2327..=2673).contains(&tested), "{seed}: {tested}");
        }
        let differ = (0..10_000).filter(|number| is_tested(*number, 1) != is_tested(*number, 2));
        assert!(differ.count() > 3000, "another seed, another choice");
    }
}
