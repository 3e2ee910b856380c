//! What samples are compared by: the deviations of features, and the reference of novelty, of
//! samples of known tasks. Both are drawn anew from the retained samples at each training of the
//! base task.

use std::sync::Arc;

use perennial_operators::RetainedSample;
use perennial_operators::algorithms::recognize::{Reference, ReferenceSample};
use perennial_operators::algorithms::usual::Spread;
use perennial_operators::flow::KnowledgeChange;

use super::round::{TrainingRound, TrainingSamples};
use super::samples::draw_order;

/// Limit on the samples of a reference.
const MOST: usize = 20_000;

impl TrainingRound<'_> {
    /// The standard deviation of each feature over a task's samples. Marks of missing values do not
    /// count.
    pub(super) fn feature_scales(&self, training: &TrainingSamples) -> KnowledgeChange {
        let deviation = |feature: usize| {
            let values = || {
                let samples = training.samples.iter();
                samples.map(move |sample| (sample.features[feature], f64::from(sample.weight)))
            };
            Spread::of(values).varies_by() as f32
        };
        KnowledgeChange::FeaturesScaled {
            deviations: (0..self.context.features).map(deviation).collect(),
        }
    }

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
