//! Calibration: how usual a score is among samples of known tasks.
//!
//! The p-value of a score is the share of calibration scores that are at least as high, the sample itself among them
//! (split-conformal prediction: Papadopoulos et al. 2002; Bates et al. 2023, "Testing for outliers with conformal p-values",
//! §2). A sample of a known task has a p-value of at most α with a probability of at most α, whatever the scores are, as long
//! as it comes from where the calibration's samples come from. Those are the latest of known tasks, each scored before
//! anything was learned from it.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::method::METHODS;
use crate::data::Epoch;

/// Samples of the calibration, the latest.
const MOST: usize = 16_384;
/// Samples of which there has to be a calibration before anything is told by it.
const LEAST: usize = 200;
/// Samples of one epoch at most, those with the lowest priority.
pub(crate) const MOST_OF_EPOCH: usize = 256;

/// The scores of one sample: one a method, then all of them together; NaN where there is none.
pub type NoveltyScores = [f32; METHODS + 1];

/// The scores of known samples, method by method.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Lowest first.
    sorted: [Vec<f32>; METHODS + 1],
}

impl Calibration {
    fn of<'a>(scores: impl Iterator<Item = &'a NoveltyScores> + Clone) -> Calibration {
        Calibration {
            sorted: std::array::from_fn(|method| {
                let column = scores.clone().map(|scores| scores[method]);
                let mut column: Vec<f32> = column.filter(|score| !score.is_nan()).collect();
                column.sort_unstable_by(f32::total_cmp);
                column
            }),
        }
    }

    /// The p-value of a score; none where too little is known, or there is no score.
    pub fn p(&self, method: usize, score: f32) -> Option<f32> {
        let sorted = &self.sorted[method];
        if sorted.len() < LEAST || score.is_nan() {
            return None;
        }
        let below = sorted.partition_point(|other| *other < score);
        Some((sorted.len() - below + 1) as f32 / (sorted.len() + 1) as f32)
    }

    /// The score that this share of samples has or exceeds; none where too little is known.
    pub fn quantile(&self, method: usize, share: f32) -> Option<f32> {
        let sorted = &self.sorted[method];
        let above = (share * sorted.len() as f32) as usize;
        let at = sorted.len().checked_sub(above + 1)?;
        (sorted.len() >= LEAST).then(|| sorted[at])
    }
}

/// The scores of an epoch's known samples.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EpochScores {
    /// Sample by sample.
    pub scores: Vec<NoveltyScores>,
    /// Whether samples are compared with these, and all before, from the next epoch on.
    pub counts: bool,
}

/// The latest scores, epoch by epoch.
#[derive(Clone, Debug, Default)]
pub struct Calibrator {
    epochs: VecDeque<(Epoch, EpochScores)>,
    /// How many samples there are, and how many of these do not count yet.
    held: usize,
    fresh: usize,
}

impl Calibrator {
    /// Takes in the scores of an epoch: what is to be committed, and the epochs that leave. Samples are compared with other
    /// scores once there is a sixteenth of new ones.
    pub fn add(&mut self, epoch: Epoch, scores: Vec<NoveltyScores>) -> (EpochScores, Vec<Epoch>) {
        self.held += scores.len();
        self.fresh += scores.len();
        let counts = self.held >= LEAST && self.fresh >= self.held / 16;
        let added = EpochScores { scores, counts };
        self.epochs.push_back((epoch, added.clone()));
        let mut left = Vec::new();
        if counts {
            self.fresh = 0;
            while let Some((oldest, scores)) = self.epochs.front() {
                if self.held - scores.scores.len() < MOST {
                    break;
                }
                self.held -= scores.scores.len();
                left.push(*oldest);
                self.epochs.pop_front();
            }
        }
        (added, left)
    }

    /// Takes in what was committed, oldest first.
    pub fn restore(restored: impl IntoIterator<Item = (Epoch, EpochScores)>) -> Calibrator {
        let mut calibrator = Calibrator::default();
        for (epoch, scores) in restored {
            calibrator.held += scores.scores.len();
            calibrator.fresh += scores.scores.len();
            if scores.counts {
                calibrator.fresh = 0;
            }
            calibrator.epochs.push_back((epoch, scores));
        }
        calibrator
    }

    /// What samples are compared with; none before anything counts.
    pub fn calibration(&self) -> Option<Calibration> {
        let last = self.epochs.iter().rposition(|(_, scores)| scores.counts)?;
        let counting = self.epochs.iter().take(last + 1);
        Some(Calibration::of(
            counting.flat_map(|(_, scores)| &scores.scores),
        ))
    }
}
