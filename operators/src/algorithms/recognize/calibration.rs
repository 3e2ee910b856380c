//! Calibration: how usual a novelty score is among samples of known tasks.
//!
//! The p-value of a score is the share of calibration scores that are at least as high, the sample
//! itself included (split-conformal prediction: Papadopoulos et al. 2002; Bates et al. 2023,
//! "Testing for outliers with conformal p-values", §2). A sample of a known task has a p-value of
//! at most α with a probability of at most α, whatever the scores are, as long as it comes from the
//! same distribution as the calibration's samples. These are the latest of known tasks, each scored
//! before anything was learned from it.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::method::METHODS;
use crate::data::Epoch;

/// Number of samples in the calibration: the latest.
const MOST: usize = 16_384;
/// Least number of samples in the calibration before it gives p-values.
const LEAST: usize = 200;
/// Most samples of one epoch: those with the lowest [priority](crate::data::priority).
pub(crate) const MOST_OF_EPOCH: usize = 256;

/// Novelty scores of one sample: one a [method](super::Method), then the score of all methods
/// together; NaN = none. The same layout holds their p-values.
pub type NoveltyScores = [f32; METHODS + 1];

/// Sorted scores of known samples, by method.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// One column a method, as in [`NoveltyScores`]; lowest first.
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

    /// P-value of a score by a method, an index into [`NoveltyScores`]. None with fewer than 200
    /// calibration scores, or if the score is NaN.
    pub fn p(&self, method: usize, score: f32) -> Option<f32> {
        let sorted = &self.sorted[method];
        if sorted.len() < LEAST || score.is_nan() {
            return None;
        }
        let below = sorted.partition_point(|other| *other < score);
        Some((sorted.len() - below + 1) as f32 / (sorted.len() + 1) as f32)
    }

    /// Score that this share of samples has or exceeds, by a method, an index into
    /// [`NoveltyScores`]. None with fewer than 200 calibration scores.
    pub fn quantile(&self, method: usize, share: f32) -> Option<f32> {
        let sorted = &self.sorted[method];
        let above = (share * sorted.len() as f32) as usize;
        let at = sorted.len().checked_sub(above + 1)?;
        (sorted.len() >= LEAST).then(|| sorted[at])
    }
}

/// Novelty scores of an epoch's samples of known tasks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EpochScores {
    /// Scores, one entry a sample.
    pub scores: Vec<NoveltyScores>,
    /// Whether the calibration is made anew of these and all earlier scores, from the next epoch
    /// on.
    pub counts: bool,
}

/// Window over the latest novelty scores of known samples, epoch by epoch.
///
/// ```
/// use perennial_operators::Epoch;
/// use perennial_operators::algorithms::recognize::{Calibrator, METHODS, Method};
///
/// // 400 known samples with the scores 0 to 399 by density, and none by the other methods.
/// let density = Method::Density as usize;
/// let mut calibrator = Calibrator::default();
/// for epoch in 0..2 {
///     let scores = (0..200).map(|row| {
///         let mut scores = [f32::NAN; METHODS + 1];
///         scores[density] = (200 * epoch + row) as f32;
///         scores
///     });
///     calibrator.add(Epoch(epoch), scores.collect());
/// }
///
/// let calibration = calibrator.calibration().unwrap();
/// assert_eq!(calibration.p(density, 0.0), Some(1.0)); // all scores are as high
/// assert_eq!(calibration.p(density, 500.0), Some(1.0 / 401.0)); // none but its own
/// ```
#[derive(Clone, Debug, Default)]
pub struct Calibrator {
    epochs: VecDeque<(Epoch, EpochScores)>,
    /// Number of samples in the window.
    held: usize,
    /// Number of samples that came since the calibration was last made anew.
    fresh: usize,
}

impl Calibrator {
    /// Adds the scores of an epoch. Returns what is to be committed of it, and the epochs that
    /// leave the window.
    ///
    /// The calibration is made anew when a sixteenth of the window's samples are new.
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

    /// Restores the window from committed epochs, oldest first.
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

    /// Calibration of the scores in the window up to the last epoch that
    /// [counts](EpochScores::counts); none before the first such epoch.
    pub fn calibration(&self) -> Option<Calibration> {
        let last = self.epochs.iter().rposition(|(_, scores)| scores.counts)?;
        let counting = self.epochs.iter().take(last + 1);
        Some(Calibration::of(
            counting.flat_map(|(_, scores)| &scores.scores),
        ))
    }
}
