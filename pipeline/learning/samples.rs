//! What a task has to learn from: samples of its past, and after drift its latest ones.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use perennial_connectors::knowledge_base::KnowledgeError;
use perennial_operators::{RetainedSample, TaskId, priority};

use super::round::TrainingRound;

/// What a task has to learn from.
pub(super) struct TrainingSamples {
    /// Retained samples of the task and of all below it, in the order of the stream.
    pub samples: Vec<RetainedSample>,
    /// The finest task of each, by sequence number.
    pub leaf_of: BTreeMap<u64, TaskId>,
}

impl TrainingRound<'_> {
    /// A task and everything below it.
    fn family(&self, task: TaskId) -> BTreeSet<TaskId> {
        let mut family = BTreeSet::new();
        let mut open = vec![task];
        while let Some(task) = open.pop() {
            if family.insert(task) {
                open.extend(self.children.get(&task).into_iter().flatten());
            }
        }
        family
    }

    pub(super) fn material(&self, task: TaskId) -> Result<TrainingSamples, KnowledgeError> {
        let mut material = TrainingSamples {
            samples: Vec::new(),
            leaf_of: BTreeMap::new(),
        };
        for leaf in self.family(task) {
            let samples = self.view.samples_of(leaf)?;
            let numbers = samples.iter().map(|sample| sample.sequence);
            material
                .leaf_of
                .extend(numbers.map(|number| (number, leaf)));
            material.samples.extend(samples);
        }
        let most = self.workshop.max_samples;
        if material.samples.len() > most {
            draw(&mut material.samples, most);
        }
        material.samples.sort_by_key(|sample| sample.sequence);
        Ok(material)
    }

    /// Adds the latest samples of the task and of all below it: of what came since drift, what is retained has little.
    pub(super) fn add_recent(
        &self,
        task: TaskId,
        material: &mut TrainingSamples,
    ) -> Result<(), KnowledgeError> {
        let TrainingSamples { samples, leaf_of } = material;
        let mut latest = Vec::new();
        let mut since: BTreeMap<TaskId, u64> = BTreeMap::new();
        for leaf in self.family(task) {
            let recent = self.view.recents_of(leaf)?;
            since.extend(recent.first().map(|first| (leaf, first.sequence)));
            latest.extend(recent.into_iter().map(|sample| (leaf, sample)));
        }
        // From there on all of a task are among its recent ones.
        samples.retain(|sample| {
            let leaf = leaf_of.get(&sample.sequence);
            let first = leaf.and_then(|leaf| since.get(leaf));
            first.is_none_or(|first| sample.sequence < *first)
        });
        for (leaf, sample) in latest {
            leaf_of.insert(sample.sequence, leaf);
            samples.push(sample);
        }
        samples.sort_by_key(|sample| sample.sequence);
        Ok(())
    }
}

/// Leaves so many samples, each subset of that size equally likely, and always the same. Of what a reservoir keeps of a
/// class all priorities are low: those of samples that stand for many must be spread as the others' are.
fn draw(samples: &mut Vec<RetainedSample>, most: usize) {
    samples.select_nth_unstable_by(most, draw_order);
    samples.truncate(most);
}

/// The order in which samples are drawn; see [`draw`].
pub(super) fn draw_order(one: &RetainedSample, other: &RetainedSample) -> Ordering {
    let of = |sample: &RetainedSample| {
        let priority = priority(sample.sequence);
        (priority as f64 * f64::from(sample.weight), priority)
    };
    let ((one, first), (other, second)) = (of(one), of(other));
    one.total_cmp(&other).then(first.cmp(&second))
}
