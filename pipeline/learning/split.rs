//! Split: which of a task's samples candidates are fitted on, and which they are judged on.

use super::paired_gain::LEAST_SAMPLES;

use perennial_operators::{RetainedSample, TaskId, is_held_back};

/// Samples of a task, split for fitting and judging.
///
/// The base task is judged on held-back samples, spread evenly over time. No model is ever fitted
/// on them: the incumbent, the task's predecessor, was fitted on all but the latest of the others.
///
/// Any other task is judged on its latest samples, since a model of its own must help with what
/// comes next, new sites included. The incumbent, an ancestor's model, may have been fitted on some
/// of them; that only makes the test harder.
///
/// After drift, only samples since the drift are judged on: for the base task the held-back ones of
/// them, for any other task their later half.
pub struct Split {
    /// Samples that candidates are fitted on.
    pub fitted: Vec<RetainedSample>,
    /// Samples that they are judged on.
    pub judged: Vec<RetainedSample>,
    /// After drift, the sequence number of the first sample since.
    pub drifted: Option<u64>,
    /// Whether the latest samples are judged on.
    forward: bool,
    /// Share of samples that no model is ever fitted on.
    holdout: f64,
}

impl Split {
    /// Share of a task's samples, the latest ones, that are judged on without drift.
    const LATEST: f64 = 0.25;

    /// Splits a task's samples, given in the order of the stream. The latest `recent` came since
    /// drift; 0 without drift. `holdout` is the share that no model is ever fitted on.
    pub fn new(samples: Vec<RetainedSample>, recent: usize, holdout: f64, task: TaskId) -> Self {
        let held_back = |sample: &RetainedSample| is_held_back(sample.sequence, holdout);
        let since = samples.len() - recent.min(samples.len());
        let drifted = samples.get(since).map(|first| first.sequence);
        let is_recent =
            |sample: &RetainedSample| drifted.is_some_and(|first| sample.sequence >= first);
        let forward = task != TaskId::BASE;
        let (judged, fitted) = if forward {
            let latest = match recent {
                0 => (samples.len() as f64 * Self::LATEST) as usize,
                recent => recent.min(samples.len()).div_ceil(2),
            };
            let mut fitted = samples;
            let judged = fitted.split_off(fitted.len() - latest);
            fitted.retain(|sample| !held_back(sample));
            (judged, fitted)
        } else {
            let (mut judged, fitted): (Vec<_>, Vec<_>) = samples.into_iter().partition(held_back);
            let latest = judged.iter().filter(|sample| is_recent(sample)).count();
            if latest >= LEAST_SAMPLES {
                judged.drain(..judged.len() - latest);
            }
            (judged, fitted)
        };
        Split {
            fitted,
            judged,
            drifted,
            forward,
            holdout,
        }
    }

    /// Uses all samples for judging a model that is fitted already.
    pub fn to_judge(samples: Vec<RetainedSample>, holdout: f64) -> Self {
        Split {
            fitted: Vec::new(),
            judged: samples,
            drifted: None,
            forward: false,
            holdout,
        }
    }

    /// Number of latest samples whose weights add up to at most `many`.
    pub fn latest(samples: &[RetainedSample], many: u64) -> usize {
        let mut weight = 0.0;
        let latest = samples.iter().rev().take_while(|sample| {
            weight += f64::from(sample.weight);
            weight <= many as f64
        });
        latest.count()
    }

    /// Samples that a model is fitted on before it is deployed, if they are more than the candidate
    /// was fitted on.
    pub fn all(self) -> Option<Vec<RetainedSample>> {
        if !self.forward {
            return None;
        }
        let latest = self.without_held_back(self.judged.clone());
        let mut all = self.fitted;
        all.extend(latest);
        Some(all)
    }

    /// Leaves those of `samples`, of this task or another, that a model may be fitted on.
    pub fn without_held_back(&self, mut samples: Vec<RetainedSample>) -> Vec<RetainedSample> {
        samples.retain(|sample| !is_held_back(sample.sequence, self.holdout));
        samples
    }
}
