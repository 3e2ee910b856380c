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
        }
    }

    /// All samples that a deployed model is fitted on, if they are more than a candidate's.
    pub fn all(self, holdout: f64) -> Option<Vec<RetainedSample>> {
        if !self.forward {
            return None;
        }
        let held_back = |sample: &RetainedSample| is_held_back(sample.sequence, holdout);
        let mut all = self.fitted;
        all.extend(self.judged.into_iter().filter(|sample| !held_back(sample)));
        Some(all)
    }
}
