//! Fitting and judging: which of a task's samples serve for what.

use perennial_operators::retain::is_held_back;
use perennial_operators::{RetainedSample, TaskId};

/// Which samples of a task a candidate is fitted on, and which it is judged on.
///
/// The base task is judged on samples that no model is ever fitted on, picked evenly over time: its
/// rival is its own model before, which knows all but the latest samples. Any other task is judged on
/// its latest samples, since what matters is whether knowing the task's past helps with what comes
/// next, new sites included; what its rivals, its ancestors, know of those samples only makes the
/// test harder.
pub struct Split {
    /// What a candidate is fitted on.
    pub fitted: Vec<RetainedSample>,
    /// What it is judged on.
    pub judged: Vec<RetainedSample>,
    /// Whether it is judged on the latest samples.
    forward: bool,
    /// The share of samples that no model is ever fitted on.
    holdout: f64,
}

impl Split {
    /// Share of a task's samples, the latest ones, that it is judged on.
    const LATEST: f64 = 0.25;

    /// Splits a task's samples, which come in the order of the stream. `holdout` is the share that no
    /// model is ever fitted on.
    pub fn new(samples: Vec<RetainedSample>, holdout: f64, task: TaskId) -> Self {
        let held_back = |sample: &RetainedSample| is_held_back(sample.sequence, holdout);
        let forward = task != TaskId::BASE;
        let (judged, fitted) = if forward {
            let latest = (samples.len() as f64 * Self::LATEST) as usize;
            let mut fitted = samples;
            let judged = fitted.split_off(fitted.len() - latest);
            fitted.retain(|sample| !held_back(sample));
            (judged, fitted)
        } else {
            samples.into_iter().partition(held_back)
        };
        Split {
            fitted,
            judged,
            forward,
            holdout,
        }
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
