//! Trials: tests whether an unseen task is one of the tasks beside it under another name.
//!
//! Each task beside it predicts the labelled samples of the unseen task. A task that is the same
//! loses less than the predictions that were made, and no more than it expects to lose. The
//! expected loss of true probabilities p is their entropy, with the variance
//! Σ p ln²p − (Σ p ln p)², so that the sum of the excess losses is about normal (the test of
//! Spiegelhalter 1986, "Probabilistic prediction in patient management and clinical trials", §2,
//! for the logarithmic score). Where the label is a number, losses are those of a normal
//! distribution: half a nat on average, with a variance of a half.

use std::sync::Arc;

use ndarray::Array2;
use rustc_hash::FxHashMap;

use super::failures::{Failures, run};
use super::models::Models;
use super::predictor::Predictor;
use crate::algorithms::neighbours::Neighbours;
use crate::algorithms::pool::{Corrections, Pool, log};
use crate::algorithms::unseen::{Trial, TrialResult, TrialSample, Verdict};
use crate::data::{LabelKind, ModelId, TaskPath};
use crate::error::Failure;

/// Probability that a task which is no better is taken for the same.
const FALSE_ALARM: f32 = 0.05;
/// Most standard deviations by which a task that is the same may exceed its expected loss.
const MOST_EXCESS: f32 = 2.0;

/// Mean of a sample, and its standard error.
#[derive(Clone, Copy, Debug)]
struct Estimate {
    mean: f32,
    error: f32,
}

impl Estimate {
    fn of(values: impl Iterator<Item = f32> + Clone) -> Estimate {
        let count = values.clone().count().max(1) as f32;
        let mean = values.clone().sum::<f32>() / count;
        let squares: f32 = values.map(|value| (value - mean).powi(2)).sum();
        // A single value has the variance 0, not 0/0.
        let variance = squares / (count - 1.0).max(f32::MIN_POSITIVE);
        Estimate {
            mean,
            error: (variance / count).sqrt(),
        }
    }

    /// Standard errors by which the mean is above zero.
    fn z_score(&self) -> f32 {
        self.mean / self.error.max(1e-6)
    }
}

/// Losses of a task on the samples of another.
struct TrialLosses {
    /// Loss of each sample, nats.
    each: Vec<f32>,
    /// Sum of the losses above the expected sum, in standard deviations.
    excess: f32,
}

/// Outputs of models for the samples of a trial. The models above are those of all siblings, and
/// each is run once.
struct TrialOutputs {
    features: Array2<f32>,
    /// None for a model that fails for a sample.
    known: FxHashMap<ModelId, Option<Array2<f32>>>,
}

impl TrialOutputs {
    fn new(samples: &[TrialSample]) -> Result<Self, Failure> {
        let width = samples.first().map_or(0, |sample| sample.features.len());
        let all = samples.iter().flat_map(|sample| &sample.features);
        Ok(TrialOutputs {
            features: Array2::from_shape_vec((samples.len(), width), all.copied().collect())?,
            known: FxHashMap::default(),
        })
    }

    /// Output of a model, of `width` columns; none if it fails for a sample.
    fn of<M: Models>(
        &mut self,
        model: ModelId,
        width: usize,
        models: &mut M,
        failures: &mut Failures,
    ) -> Option<&Array2<f32>> {
        let features = self.features.view();
        let output = self.known.entry(model).or_insert_with(|| {
            let mut output = Array2::zeros((features.nrows(), width));
            let missing = run(models, failures, model, features, output.view_mut());
            missing.is_empty().then_some(output)
        });
        output.as_ref()
    }
}

impl<M: Models> Predictor<M> {
    /// Runs the trials that are due.
    pub(super) fn run_trials(&mut self) -> Result<Vec<TrialResult>, Failure> {
        let trials = std::mem::take(&mut self.trials);
        trials.iter().map(|trial| self.run_trial(trial)).collect()
    }

    fn run_trial(&mut self, trial: &Arc<Trial>) -> Result<TrialResult, Failure> {
        let mut best: Option<(Estimate, f32, &TaskPath)> = None;
        let mut outputs = TrialOutputs::new(&trial.samples)?;
        for path in &trial.siblings {
            let Some(losses) = self.losses(path, &trial.samples, &mut outputs)? else {
                continue;
            };
            let gains = trial.samples.iter().zip(&losses.each);
            let gain = Estimate::of(gains.map(|(sample, loss)| sample.loss - loss));
            if best.is_none_or(|(highest, _, _)| gain.mean > highest.mean) {
                best = Some((gain, losses.excess, path));
            }
        }
        // With `many` candidates that are no better, the best z-score exceeds √(2 ln many) by
        // chance, and √(2 ln(many / α)) with probability below α.
        let many = trial.siblings.len().max(2) as f32;
        let (by_chance, sure) = (
            (2.0 * many.ln()).sqrt(),
            (2.0 * (many / FALSE_ALARM).ln()).sqrt(),
        );
        let verdict = match best {
            Some((gain, excess, path)) if gain.z_score() > by_chance && excess <= MOST_EXCESS => {
                if trial.again {
                    Verdict::Unsure
                } else if gain.z_score() > sure {
                    Verdict::Alias(path.leaf().clone())
                } else {
                    Verdict::New
                }
            }
            _ => Verdict::New,
        };
        Ok(TrialResult {
            task: trial.task,
            verdict,
        })
    }

    /// Losses of the leaf of a path on samples; none if no task of the path has a model, or if one
    /// fails for a sample.
    fn losses(
        &mut self,
        path: &TaskPath,
        samples: &[TrialSample],
        of_models: &mut TrialOutputs,
    ) -> Result<Option<TrialLosses>, Failure> {
        let kind = self.rules.kind;
        // Models and adapters represent the task; neighbours would represent only a few samples.
        let no_neighbours = Neighbours::default();
        let corrections = self.rules.adapters.then_some(Corrections {
            adapters: &self.adapters,
            neighbours: &no_neighbours,
        });
        let integration = self.rules.integration;
        let pool = Pool::new(path, &self.deployed, corrections, integration, kind);
        let Some(pool) = pool.filter(|_| !samples.is_empty()) else {
            return Ok(None);
        };
        let (rows, width) = (samples.len(), kind.width());
        let row_width = pool.models.len() * width;
        let mut outputs = vec![0.0; rows * row_width];
        for (index, model) in pool.models.iter().enumerate() {
            let (models, failures) = (&mut self.models, &mut self.failures);
            let Some(output) = of_models.of(*model, width, models, failures) else {
                return Ok(None);
            };
            for (row, output) in output.rows().into_iter().enumerate() {
                let start = row * row_width + index * width;
                for (to, value) in outputs[start..start + width].iter_mut().zip(output) {
                    *to = *value;
                }
            }
        }
        let mut prediction = vec![0.0; width];
        let (mut each, mut excess, mut variance) = (Vec::with_capacity(rows), 0.0, 0.0);
        for (sample, outputs) in samples.iter().zip(outputs.chunks_exact(row_width)) {
            pool.integrate(outputs, &mut prediction);
            let loss = pool.loss(&prediction, sample.label);
            let (expected, spread) = expected_loss(kind, &prediction);
            excess += loss - expected;
            variance += spread;
            each.push(loss);
        }
        let excess = excess / variance.max(1e-6_f32).sqrt();
        Ok(Some(TrialLosses { each, excess }))
    }
}

/// Loss that a prediction expects of itself, nats, and the variance of that.
fn expected_loss(kind: LabelKind, prediction: &[f32]) -> (f32, f32) {
    match kind {
        LabelKind::Number => (0.5, 0.5),
        LabelKind::Classes(_) => {
            let entropy: f32 = prediction.iter().map(|p| -p * log(*p)).sum();
            let squares: f32 = prediction.iter().map(|p| p * log(*p).powi(2)).sum();
            (entropy, (squares - entropy * entropy).max(0.0))
        }
    }
}
