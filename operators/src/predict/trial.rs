//! Trials: whether an unseen task is one of the tasks beside it under another name.
//!
//! Each of these answers to the labelled samples of the unseen one. One that is the same loses less than what was answered to
//! them, and no more than it expects to: the loss of probabilities p that are right is their entropy, with the variance
//! Σ p ln²p − (Σ p ln p)², so that the sum of what it loses beyond is normal (the test of Spiegelhalter 1986, "Probabilistic
//! prediction in patient management and clinical trials", §2, for the logarithmic score). For a number, losses are those
//! of a normal distribution: half a nat on average, with a variance of a half.

use std::sync::Arc;

use ndarray::Array2;

use super::predictor::{Models, Predictor};
use crate::Failure;
use crate::algorithms::neighbours::Neighbours;
use crate::algorithms::pool::{Corrections, Pool, log};
use crate::algorithms::unseen::{Trial, TrialResult, TrialSample, Verdict};
use crate::data::{LabelKind, TaskPath};

/// The chance that a task which is no better is taken for the same.
const FALSE_ALARM: f32 = 0.05;
/// By how many standard errors it may lose more than it expects to.
const ERRORS: f32 = 2.0;

/// A mean, and its standard error.
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
        // Of one value nothing is known of how it varies.
        let variance = squares / (count - 1.0).max(f32::MIN_POSITIVE);
        Estimate {
            mean,
            error: (variance / count).sqrt(),
        }
    }

    /// How many standard errors it is above zero.
    fn sure(&self) -> f32 {
        self.mean / self.error.max(1e-6)
    }
}

/// What a task loses on the samples of another.
struct TrialLosses {
    /// Each sample's, nats.
    each: Vec<f32>,
    /// Their sum beyond what it expects, in standard deviations.
    beyond: f32,
}

impl<M: Models> Predictor<M> {
    /// Carries out the trials that are due.
    pub(super) fn attempts(&mut self) -> Result<Vec<TrialResult>, Failure> {
        let trials = std::mem::take(&mut self.trials);
        trials.iter().map(|trial| self.attempt(trial)).collect()
    }

    fn attempt(&mut self, trial: &Arc<Trial>) -> Result<TrialResult, Failure> {
        let mut best: Option<(Estimate, f32, &TaskPath)> = None;
        for path in &trial.beside {
            let Some(losses) = self.losses(path, &trial.samples)? else {
                continue;
            };
            let gains = trial.samples.iter().zip(&losses.each);
            let gain = Estimate::of(gains.map(|(sample, loss)| sample.lost - loss));
            if best.is_none_or(|(least, _, _)| gain.mean > least.mean) {
                best = Some((gain, losses.beyond, path));
            }
        }
        // The best of many that are no better is better by chance: so many standard errors, and hardly ever so many.
        let many = trial.beside.len().max(2) as f32;
        let (chance, sure) = (
            (2.0 * many.ln()).sqrt(),
            (2.0 * (many / FALSE_ALARM).ln()).sqrt(),
        );
        let verdict = match best {
            Some((gain, beyond, path)) if gain.sure() > chance && beyond <= ERRORS => {
                match (trial.again, gain.sure() > sure) {
                    (true, _) => Verdict::Unsure,
                    (false, true) => Verdict::Same(path.leaf().clone()),
                    (false, false) => Verdict::Apart,
                }
            }
            _ => Verdict::Apart,
        };
        Ok(TrialResult {
            task: trial.task,
            verdict,
        })
    }

    /// What the end of a path loses on samples; nothing if no model answers for it.
    fn losses(
        &mut self,
        path: &TaskPath,
        samples: &[TrialSample],
    ) -> Result<Option<TrialLosses>, Failure> {
        let kind = self.rules.kind;
        // It is known from its models and adapters: neighbours tell of few samples.
        let nobody = Neighbours::default();
        let lessons = self.rules.adapters.then_some(Corrections {
            adapters: &self.adapters,
            neighbours: &nobody,
        });
        let pool = Pool::new(path, &self.deployed, lessons, self.rules.integration, kind);
        let (Some(pool), Some(first)) = (pool, samples.first()) else {
            return Ok(None);
        };
        let (rows, width) = (samples.len(), kind.width());
        let all = samples.iter().flat_map(|sample| &sample.features);
        let features =
            Array2::from_shape_vec((rows, first.features.len()), all.copied().collect())?;
        let mut answers = vec![0.0; rows * pool.models.len() * width];
        let mut said = Array2::zeros((rows, width));
        for (place, model) in pool.models.iter().enumerate() {
            self.models
                .predict(*model, features.view(), said.view_mut())?;
            for (row, said) in said.rows().into_iter().enumerate() {
                let start = (row * pool.models.len() + place) * width;
                for (to, said) in answers[start..start + width].iter_mut().zip(said) {
                    *to = *said;
                }
            }
        }
        let mut answer = vec![0.0; width];
        let (mut each, mut beyond, mut variance) = (Vec::with_capacity(rows), 0.0, 0.0);
        for (sample, answers) in samples
            .iter()
            .zip(answers.chunks_exact(pool.models.len() * width))
        {
            pool.integrate(answers, &mut answer);
            let loss = pool.loss(&answer, sample.label);
            let (expected, spread) = expected(kind, &answer);
            beyond += loss - expected;
            variance += spread;
            each.push(loss);
        }
        let beyond = beyond / variance.max(1e-6_f32).sqrt();
        Ok(Some(TrialLosses { each, beyond }))
    }
}

/// What an answer expects to lose, nats, and the variance of that.
fn expected(kind: LabelKind, answer: &[f32]) -> (f32, f32) {
    match kind {
        LabelKind::Number => (0.5, 0.5),
        LabelKind::Classes(_) => {
            let entropy: f32 = answer.iter().map(|p| -p * log(*p)).sum();
            let squares: f32 = answer.iter().map(|p| p * log(*p).powi(2)).sum();
            (entropy, (squares - entropy * entropy).max(0.0))
        }
    }
}
