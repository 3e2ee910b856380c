//! Fitting and judging: which of a task's samples serve for what.

use perennial_operators::{RetainedSample, TaskId, is_held_back};

use super::judge::LEAST_SAMPLES;

/// Which samples of a task a candidate is fitted on, and which it is judged on.
///
/// The base task is judged on samples that no model is ever fitted on, picked evenly over time: its
/// rival is its own model before, which knows all but the latest samples. Any other task is judged on
/// its latest samples, since what matters is whether knowing the task's past helps with what comes
/// next, new sites included; what its rivals, its ancestors, know of those samples only makes the
/// test harder.
///
/// After drift, either is judged on what came since: the base task on what is held back of that, any other on its later
/// half.
pub struct Split {
    /// What a candidate is fitted on.
    pub fitted: Vec<RetainedSample>,
    /// What it is judged on.
    pub judged: Vec<RetainedSample>,
    /// After drift, the sequence number of the first sample that came since.
    pub drifted: Option<u64>,
    /// Whether it is judged on the latest samples.
    forward: bool,
    /// The share of samples that no model is ever fitted on.
    holdout: f64,
}

impl Split {
    /// Share of a task's samples, the latest ones, that it is judged on.
    const LATEST: f64 = 0.25;

    /// Splits a task's samples, which come in the order of the stream; the latest `recent` came after drift, if there
    /// was any. `holdout` is the share that no model is ever fitted on.
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

    /// All samples are for judging what is fitted already.
    pub fn to_judge(samples: Vec<RetainedSample>, holdout: f64) -> Self {
        Split {
            fitted: Vec::new(),
            judged: samples,
            drifted: None,
            forward: false,
            holdout,
        }
    }

    /// How many of some samples, the latest, stand for so many.
    pub fn latest(samples: &[RetainedSample], many: u64) -> usize {
        let mut stood_for = 0.0;
        let latest = samples.iter().rev().take_while(|sample| {
            stood_for += f64::from(sample.weight);
            stood_for <= many as f64
        });
        latest.count()
    }

    /// All samples that a deployed model is fitted on, if they are more than a candidate's.
    pub fn all(self) -> Option<Vec<RetainedSample>> {
        if !self.forward {
            return None;
        }
        let latest = self.without_held_back(self.judged.clone());
        let mut all = self.fitted;
        all.extend(latest);
        Some(all)
    }

    /// Those samples, of this task or another, that a model may be fitted on.
    pub fn without_held_back(&self, mut samples: Vec<RetainedSample>) -> Vec<RetainedSample> {
        samples.retain(|sample| !is_held_back(sample.sequence, self.holdout));
        samples
    }
}
