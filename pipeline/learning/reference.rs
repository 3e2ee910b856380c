//! What samples of known tasks look like, drawn from those that are retained.

use std::sync::Arc;

use perennial_operators::RetainedSample;
use perennial_operators::algorithms::recognize::{Reference, ReferenceSample};
use perennial_operators::flow::KnowledgeChange;

use super::round::TrainingRound;
use super::samples::{TrainingSamples, draw_order};

/// Samples that are looked at, at most.
const MOST: usize = 20_000;

impl TrainingRound<'_> {
    /// What a task's samples look like, those of all below it.
    pub(super) fn reference(&self, material: &TrainingSamples) -> Option<KnowledgeChange> {
        let mut samples: Vec<&RetainedSample> = material.samples.iter().collect();
        samples.sort_by(|one, other| draw_order(one, other));
        samples.truncate(MOST);
        let samples: Vec<ReferenceSample<'_>> = samples
            .into_iter()
            .filter_map(|sample| {
                Some(ReferenceSample {
                    task: *material.leaf_of.get(&sample.sequence)?,
                    features: &sample.features,
                })
            })
            .collect();
        let name = |task| {
            let record = self.tasks.get(&task)?;
            Some(record.definition.name.clone())
        };
        let reference = Reference::of(&samples, name)?;
        Some(KnowledgeChange::ReferenceDrawn(Arc::new(reference)))
    }
}
