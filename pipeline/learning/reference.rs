//! Reference of novelty: features of samples of known tasks, drawn from the retained ones.

use std::sync::Arc;

use perennial_operators::RetainedSample;
use perennial_operators::algorithms::recognize::{Reference, ReferenceSample};
use perennial_operators::flow::KnowledgeChange;

use super::round::{TrainingRound, TrainingSamples};
use super::samples::draw_order;

/// Limit on the samples of a reference.
const MOST: usize = 20_000;

impl TrainingRound<'_> {
    /// The reference of a task's samples.
    pub(super) fn reference(&self, training: &TrainingSamples) -> Option<KnowledgeChange> {
        let mut samples: Vec<&RetainedSample> = training.samples.iter().collect();
        samples.sort_by(|one, other| draw_order(one, other));
        samples.truncate(MOST);
        let samples: Vec<ReferenceSample<'_>> = samples
            .into_iter()
            .filter_map(|sample| {
                Some(ReferenceSample {
                    task: *training.leaf_of.get(&sample.sequence)?,
                    features: &sample.features,
                })
            })
            .collect();
        let name = |task| Some(self.tasks.get(&task)?.definition.name.clone());
        let reference = Reference::of(&samples, name)?;
        Some(KnowledgeChange::ReferenceDrawn(Arc::new(reference)))
    }
}
