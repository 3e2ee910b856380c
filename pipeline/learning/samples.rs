//! Training samples: retained samples of a task's past, and after drift its latest ones.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use perennial_connectors::knowledge_base::KnowledgeError;
use perennial_operators::{RetainedSample, TaskId, priority};

use super::left_out::leave_out;
use super::round::{TrainingRound, TrainingSamples};

impl TrainingRound<'_> {
    /// A task and all tasks below it.
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

    /// Retained samples of a task and all tasks below it, at most as many as a training takes. With
    /// `recent`, their recent samples too. Those that cannot be learned from are left out.
    pub(super) fn training_samples(
        &self,
        task: TaskId,
        recent: bool,
    ) -> Result<TrainingSamples, KnowledgeError> {
        let mut training = self.retained_samples(task)?;
        if recent {
            self.add_recent(task, &mut training)?;
        }
        training.left_out = leave_out(&mut training.samples, self.context.kind);
        Ok(training)
    }

    fn retained_samples(&self, task: TaskId) -> Result<TrainingSamples, KnowledgeError> {
        let mut training = TrainingSamples::default();
        for leaf in self.family(task) {
            let samples = self.view.samples_of(leaf)?;
            let numbers = samples.iter().map(|sample| sample.sequence);
            training
                .leaf_of
                .extend(numbers.map(|number| (number, leaf)));
            training.samples.extend(samples);
        }
        let most = self.context.max_samples;
        if training.samples.len() > most {
            draw(&mut training.samples, most);
        }
        training.samples.sort_by_key(|sample| sample.sequence);
        Ok(training)
    }

    /// Adds the recent samples of a task and all tasks below it. Retained samples are spread over
    /// the whole past, so few of them came since the drift.
    fn add_recent(
        &self,
        task: TaskId,
        training: &mut TrainingSamples,
    ) -> Result<(), KnowledgeError> {
        let TrainingSamples {
            samples, leaf_of, ..
        } = training;
        let mut latest = Vec::new();
        let mut since: BTreeMap<TaskId, u64> = BTreeMap::new();
        for leaf in self.family(task) {
            let recent = self.view.recents_of(leaf)?;
            since.extend(recent.first().map(|first| (leaf, first.sequence)));
            latest.extend(recent.into_iter().map(|sample| (leaf, sample)));
        }
        // From a task's first recent sample on, the recent ones are complete.
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

/// Draws `most` of the samples: each subset of that size is equally likely, and the draw repeats.
/// The priorities that a reservoir keeps are low where a sample stands for many. Multiplied by the
/// weight, they are spread alike for all samples.
fn draw(samples: &mut Vec<RetainedSample>, most: usize) {
    samples.select_nth_unstable_by(most, draw_order);
    samples.truncate(most);
}

/// Order in which samples are drawn, by weighted priority.
pub(super) fn draw_order(one: &RetainedSample, other: &RetainedSample) -> Ordering {
    let key = |sample: &RetainedSample| {
        let priority = priority(sample.sequence);
        (priority as f64 * f64::from(sample.weight), priority)
    };
    let ((one, first), (other, second)) = (key(one), key(other));
    one.total_cmp(&other).then(first.cmp(&second))
}
