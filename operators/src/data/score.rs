//! Statistics of a task as a *difference*: a group element that can be added and retracted.
//!
//! All numbers are integers. Integer sums do not depend on the order of the terms, so the
//! statistics are the same whatever the number of workers, and a retraction removes exactly what
//! was added.

use differential_dataflow::difference::{Abelian, IsZero, Monoid, Semigroup};
use serde::{Deserialize, Serialize};

use super::label::LabelKind;
use super::moments::{FEATURE_LIMIT, FEATURE_STEPS, Moments, round};
use super::task::TaskId;

/// Losses are counted in steps of 2⁻³² nats.
const LOSS_STEPS: f64 = (1_u64 << 32) as f64;
/// Lower probabilities count as this one, so that one sure mistake costs a finite loss.
const LEAST_PROBABILITY: f64 = 1e-15;

/// Score of some predictions: their number and the sums of their losses, which depend on the
/// [kind of the label](LabelKind).
///
/// ```
/// use perennial_operators::Score;
///
/// let mut score = Score::one(true, 0.5); // the true class had the probability 0.5
/// score.add(&Score::one(false, 0.25));
/// assert_eq!(score.accuracy(), Some(0.5));
/// assert!((score.log_loss().unwrap_or_default() - 8_f64.ln() / 2.0).abs() < 1e-6);
///
/// let number = Score::of_number(21.5, 20.0);
/// assert_eq!((number.mae(), number.rmse()), (Some(1.5), Some(1.5)));
/// ```
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Score {
    /// Number of predictions whose label is known.
    pub count: i64,
    /// Number of right predictions; 0 if the label is a number.
    pub correct: i64,
    /// Sum of −ln p(label) in steps of 2⁻³² nats if the label has classes; sum of squared errors,
    /// in squared feature steps, if it is a number.
    loss: i128,
    /// Sum of absolute errors in feature steps if the label is a number.
    absolute: i128,
}

impl Score {
    /// Score of one prediction that gave the true class this probability.
    pub fn one(correct: bool, probability: f32) -> Self {
        let probability = f64::from(probability);
        let loss = -if probability >= LEAST_PROBABILITY {
            probability.min(1.0)
        } else {
            // NaN ends here too: a broken prediction gets the greatest loss.
            LEAST_PROBABILITY
        }
        .ln();
        Score {
            count: 1,
            correct: i64::from(correct),
            loss: i128::from((loss * LOSS_STEPS).round() as i64),
            absolute: 0,
        }
    }

    /// Score of one predicted number.
    pub fn of_number(predicted: f32, label: f32) -> Self {
        let error = (f64::from(predicted) - f64::from(label)).abs();
        let steps = if error.is_nan() {
            // A broken prediction gets the greatest loss.
            FEATURE_LIMIT
        } else {
            round(error * FEATURE_STEPS).min(FEATURE_LIMIT)
        };
        let steps = i128::from(steps as i64);
        Score {
            count: 1,
            correct: 0,
            loss: steps * steps,
            absolute: steps,
        }
    }

    /// Adds another score. Counts saturate, since the other may come over the network.
    pub fn add(&mut self, other: &Score) {
        self.count = self.count.saturating_add(other.count);
        self.correct = self.correct.saturating_add(other.correct);
        // The sum of squares can exceed its range. Wrapped, it is right again as soon as the errors
        // that were too large have left the window.
        self.loss = self.loss.wrapping_add(other.loss);
        self.absolute = self.absolute.saturating_add(other.absolute);
    }

    /// Share of right predictions; none before the first.
    pub fn accuracy(&self) -> Option<f64> {
        (self.count > 0).then(|| self.correct as f64 / self.count as f64)
    }

    /// Mean log loss, nats; none before the first prediction.
    pub fn log_loss(&self) -> Option<f64> {
        (self.count > 0).then(|| self.loss as f64 / LOSS_STEPS / self.count as f64)
    }

    /// Mean absolute error, in the label's unit; none before the first prediction.
    pub fn mae(&self) -> Option<f64> {
        (self.count > 0).then(|| self.absolute as f64 / FEATURE_STEPS / self.count as f64)
    }

    /// Root of the mean squared error, in the label's unit; none before the first prediction.
    ///
    /// It is never below the mean absolute error, which takes its place where the sum of squares
    /// has exceeded its range.
    pub fn rmse(&self) -> Option<f64> {
        let square = FEATURE_STEPS * FEATURE_STEPS;
        let count = (self.count > 0).then_some(self.count as f64)?;
        let (mean, absolute) = (self.loss as f64 / count, self.absolute as f64 / count);
        if is_too_small(mean, absolute) {
            return self.mae();
        }
        Some((self.loss as f64 / square / count).sqrt())
    }

    /// Losses of the predictions that an earlier score does not count.
    pub(crate) fn losses_since(&self, earlier: &Score, kind: LabelKind) -> Losses {
        let count = self.count - earlier.count;
        match kind {
            LabelKind::Classes(_) => {
                let wrong = (count - (self.correct - earlier.correct)) as f64;
                Losses {
                    count,
                    sum: wrong,
                    squares: wrong,
                }
            }
            LabelKind::Number => {
                let sum = (self.absolute - earlier.absolute) as f64 / FEATURE_STEPS;
                let squares = self.loss.wrapping_sub(earlier.loss) as f64;
                let squares = squares / (FEATURE_STEPS * FEATURE_STEPS);
                let (mean, known) = (sum / count.max(1) as f64, count.max(1) as f64);
                let squares = if is_too_small(squares / known, mean) {
                    mean * mean * known
                } else {
                    squares
                };
                Losses {
                    count,
                    sum,
                    squares,
                }
            }
        }
    }

    fn negate(&mut self) {
        self.count = -self.count;
        self.correct = -self.correct;
        self.loss = self.loss.wrapping_neg();
        self.absolute = -self.absolute;
    }
}

/// Whether a mean square is below the square of the mean by more than rounding: the sum of squares
/// has exceeded its range.
fn is_too_small(mean_square: f64, mean: f64) -> bool {
    mean_square < mean * mean * (1.0 - 1e-9)
}

/// Scores of some labels, for triggers and windows. Every task keeps some of these in memory, so
/// they are small.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct TaskScores {
    /// Number of samples whose label is known, the bootstrap's included.
    pub labelled: i64,
    /// Score of the pipeline's own predictions of them.
    pub score: Score,
}

impl IsZero for TaskScores {
    fn is_zero(&self) -> bool {
        *self == TaskScores::default()
    }
}

impl Semigroup for TaskScores {
    fn plus_equals(&mut self, other: &Self) {
        self.labelled += other.labelled;
        self.score.add(&other.score);
    }
}

impl Monoid for TaskScores {
    fn zero() -> Self {
        TaskScores::default()
    }
}

impl Abelian for TaskScores {
    fn negate(&mut self) {
        self.labelled = -self.labelled;
        self.score.negate();
    }
}

/// Change of a task's statistics. The empty one is zero.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TaskDifference {
    /// Number of samples whose label is known, the bootstrap's included.
    pub labelled: i64,
    /// Score of the pipeline's own predictions.
    pub score: Score,
    /// Scores of the baselines on the same samples, in the order of the config.
    pub baselines: Vec<Score>,
    /// Confusion matrix, classes × classes: the cell of a label and a predicted class is at
    /// `label * classes + prediction`. Empty if the label is a number.
    pub confusion: Vec<i64>,
    /// Moments of the scored predictions' labels, if the label is a number.
    pub labels: Moments,
    /// Moments of each feature over the labelled samples.
    pub moments: Vec<Moments>,
}

/// Adds element by element; the shorter slice counts as padded with zeros.
fn add_columns<T: Default + Clone>(to: &mut Vec<T>, from: &[T], add: impl Fn(&mut T, &T)) {
    if to.len() < from.len() {
        to.resize(from.len(), T::default());
    }
    for (to, from) in to.iter_mut().zip(from) {
        add(to, from);
    }
}

fn all_zero<T: Default + PartialEq>(column: &[T]) -> bool {
    column.iter().all(|cell| *cell == T::default())
}

impl TaskDifference {
    /// The counts and scores alone, without confusion and moments.
    #[must_use]
    pub fn scores(&self) -> TaskScores {
        TaskScores {
            labelled: self.labelled,
            score: self.score,
        }
    }

    /// Share of the labels' variance that the predictions of `score` explain (R²): 1 − mean squared
    /// error / variance. None if the labels do not vary.
    pub fn r2(&self, score: &Score) -> Option<f64> {
        let variance = self.labels.variance().filter(|variance| *variance > 0.0)?;
        Some(1.0 - score.rmse()?.powi(2) / variance)
    }
}

impl IsZero for TaskDifference {
    fn is_zero(&self) -> bool {
        self.labelled == 0
            && self.score == Score::default()
            && all_zero(&self.baselines)
            && all_zero(&self.confusion)
            && self.labels == Moments::default()
            && all_zero(&self.moments)
    }
}

impl Semigroup for TaskDifference {
    fn plus_equals(&mut self, other: &Self) {
        self.labelled += other.labelled;
        self.score.add(&other.score);
        add_columns(&mut self.baselines, &other.baselines, Score::add);
        add_columns(&mut self.confusion, &other.confusion, |a, b| *a += b);
        self.labels.add(&other.labels);
        add_columns(&mut self.moments, &other.moments, Moments::add);
    }
}

impl Monoid for TaskDifference {
    fn zero() -> Self {
        TaskDifference::default()
    }
}

impl Abelian for TaskDifference {
    fn negate(&mut self) {
        self.labelled = -self.labelled;
        self.score.negate();
        self.baselines.iter_mut().for_each(Score::negate);
        self.confusion.iter_mut().for_each(|cell| *cell = -*cell);
        self.labels.negate();
        self.moments.iter_mut().for_each(Moments::negate);
    }
}

/// A rise of losses: the means before and after it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rise {
    /// Mean loss before: share of wrong predictions, or mean absolute error in the label's unit. Of
    /// features, mean strangeness from 0 to 1; 0.5 if samples look like earlier ones.
    pub before: f32,
    /// Mean loss since.
    pub after: f32,
    /// Number of labels since. Of features 0, as no label is needed.
    pub samples: i64,
}

/// Losses of some predictions, summed: 1 for a wrong class, the absolute error for a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Losses {
    /// Number of predictions.
    pub count: i64,
    /// Sum of losses.
    pub sum: f64,
    /// Sum of squared losses.
    pub squares: f64,
}

impl Losses {
    pub(crate) fn add(&mut self, other: &Losses) {
        self.count += other.count;
        self.sum += other.sum;
        self.squares += other.squares;
    }

    pub(crate) fn take(&mut self, other: &Losses) {
        self.count -= other.count;
        self.sum -= other.sum;
        self.squares -= other.squares;
    }

    pub(crate) fn mean(&self) -> f64 {
        self.sum / self.count.max(1) as f64
    }

    pub(crate) fn variance(&self) -> f64 {
        let mean = self.mean();
        (self.squares / self.count.max(1) as f64 - mean * mean).max(0.0)
    }

    /// Unit of a loss: 1, the greatest loss, for classes; the root mean square for numbers.
    pub(crate) fn unit(&self, kind: LabelKind) -> f64 {
        match kind {
            LabelKind::Classes(_) => 1.0,
            LabelKind::Number => (self.squares / self.count.max(1) as f64).sqrt(),
        }
    }
}

/// Scores of a task: over all its labels, and over the latest ones.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Standing {
    /// Scores over all labels.
    pub total: TaskScores,
    /// Scores over the labels in the task's window.
    pub window: TaskScores,
}

impl IsZero for Standing {
    fn is_zero(&self) -> bool {
        self.total.is_zero() && self.window.is_zero()
    }
}

impl Semigroup for Standing {
    fn plus_equals(&mut self, other: &Self) {
        self.total.plus_equals(&other.total);
        self.window.plus_equals(&other.window);
    }
}

/// A task and its current standing.
pub type View = (TaskId, Standing);

#[cfg(test)]
mod tests {
    use super::*;

    fn scores(errors: &[f32]) -> Score {
        let mut all = Score::default();
        for error in errors {
            all.add(&Score::of_number(*error, 0.0));
        }
        all
    }

    #[test]
    fn root_mean_square_is_never_below_the_mean_error() {
        // Each of these squares is close to the range of their sum.
        for count in [1, 7, 8, 9, 16, 100, 1000] {
            let all = scores(&vec![1e17; count]);
            let (mae, rmse) = (all.mae().unwrap(), all.rmse().unwrap());
            assert!(rmse >= mae && mae > 1e12, "{count}: {rmse} {mae}");
        }
    }

    #[test]
    fn window_recovers_from_errors_beyond_the_range() {
        let mut window = TaskScores {
            labelled: 1000,
            score: scores(&vec![1e17; 1000]),
        };
        let mut gone = window;
        gone.negate();
        let usual = TaskScores {
            labelled: 2,
            score: scores(&[3.0, 4.0]),
        };
        window.plus_equals(&usual);
        window.plus_equals(&gone);
        assert_eq!(window, usual);
    }
}
