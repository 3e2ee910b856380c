//! The statistics of a task as a *difference*: a group element that can be added and taken back.
//!
//! All numbers are integers. Integer sums do not depend on the order of the terms, so the statistics
//! are the same whatever the number of workers, and a retraction takes back exactly what was added.

use differential_dataflow::difference::{Abelian, IsZero, Monoid, Semigroup};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::label::LabelKind;
use super::task::TaskId;

/// Feature values are counted in steps of 2⁻²⁰ and saturate at ±2⁴².
const FEATURE_STEPS: f64 = (1_u64 << 20) as f64;
const FEATURE_LIMIT: f64 = (1_u64 << 62) as f64;
/// Losses are counted in steps of 2⁻³² nats.
const LOSS_STEPS: f64 = (1_u64 << 32) as f64;
/// A probability below this is scored as if it were this, so that one sure mistake costs a finite loss.
const LEAST_PROBABILITY: f64 = 1e-15;

/// How well predictions did: counts and sums of what they lost. Which sums, the kind of the label says.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Score {
    /// Predictions whose label is known.
    pub count: i64,
    /// Those that were right, where the label has classes.
    pub correct: i64,
    /// Where the label has classes, the sum of −ln p(label), in steps of 2⁻³² nats; where it is a number, the sum of
    /// squared errors, in the squared steps of features.
    loss: i128,
    /// Where the label is a number, the sum of errors without their signs, in the steps of features.
    absolute: i128,
}

impl Score {
    /// The score of one prediction that gave the true label the probability `probability`.
    pub fn one(correct: bool, probability: f32) -> Self {
        let probability = f64::from(probability);
        let loss = -if probability >= LEAST_PROBABILITY {
            probability.min(1.0)
        } else {
            // NaN ends here too: a model that answers nonsense is charged the most.
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

    /// The score of one prediction of a number.
    pub fn of_number(said: f32, label: f32) -> Self {
        let error = (f64::from(said) - f64::from(label)).abs();
        let steps = match error.is_nan() {
            // A model that answers nonsense is charged the most.
            true => FEATURE_LIMIT,
            false => round(error * FEATURE_STEPS).min(FEATURE_LIMIT),
        };
        let steps = i128::from(steps as i64);
        Score {
            count: 1,
            correct: 0,
            loss: steps * steps,
            absolute: steps,
        }
    }

    /// Adds another score.
    pub fn add(&mut self, other: &Score) {
        self.count += other.count;
        self.correct += other.correct;
        self.loss = self.loss.saturating_add(other.loss);
        self.absolute += other.absolute;
    }

    /// Share of right predictions; none before the first.
    pub fn accuracy(&self) -> Option<f64> {
        (self.count > 0).then(|| self.correct as f64 / self.count as f64)
    }

    /// Mean log loss in nats; none before the first prediction.
    pub fn log_loss(&self) -> Option<f64> {
        (self.count > 0).then(|| self.loss as f64 / LOSS_STEPS / self.count as f64)
    }

    /// Mean error without its sign, in the label's unit; none before the first prediction.
    pub fn mae(&self) -> Option<f64> {
        (self.count > 0).then(|| self.absolute as f64 / FEATURE_STEPS / self.count as f64)
    }

    /// Root of the mean squared error, in the label's unit; none before the first prediction.
    pub fn rmse(&self) -> Option<f64> {
        let square = FEATURE_STEPS * FEATURE_STEPS;
        (self.count > 0).then(|| (self.loss as f64 / square / self.count as f64).sqrt())
    }

    /// What the predictions lost that are not in an earlier score.
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
            LabelKind::Number => Losses {
                count,
                sum: (self.absolute - earlier.absolute) as f64 / FEATURE_STEPS,
                squares: (self.loss.saturating_sub(earlier.loss)) as f64
                    / (FEATURE_STEPS * FEATURE_STEPS),
            },
        }
    }

    fn negate(&mut self) {
        self.count = -self.count;
        self.correct = -self.correct;
        self.loss = self.loss.saturating_neg();
        self.absolute = -self.absolute;
    }
}

/// What triggers look at of some labels, and what windows keep: little, since every task has it in memory.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct TaskScores {
    /// Samples whose label is known, those of the bootstrap among them.
    pub labelled: i64,
    /// The pipeline's own predictions of them.
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

/// Sums over the known values of one feature.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moments {
    /// Values that were not missing.
    pub count: i64,
    sum: i128,
    squares: i128,
}

/// Moments as they are written. For machines, the square of a single value, which most of a small task's moments in an epoch
/// are, is taken from `squares`: the nothing that is left takes a byte instead of eight.
#[derive(Serialize, Deserialize)]
#[serde(rename = "Moments")]
struct Written {
    count: i64,
    sum: i128,
    squares: i128,
}

impl Serialize for Moments {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Moments {
            count,
            sum,
            squares,
        } = *self;
        let single = self.single(serializer.is_human_readable());
        let squares = squares.wrapping_sub(single);
        let written = Written {
            count,
            sum,
            squares,
        };
        written.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Moments {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let readable = deserializer.is_human_readable();
        let Written {
            count,
            sum,
            squares,
        } = Written::deserialize(deserializer)?;
        let mut moments = Moments {
            count,
            sum,
            squares,
        };
        moments.squares = squares.wrapping_add(moments.single(readable));
        Ok(moments)
    }
}

/// The nearest integer, the even one of two. Without the instruction for it, which the oldest processors
/// lack, the library's function is a call that costs more than all else that is done with a value.
#[inline]
fn round(value: f64) -> f64 {
    /// Next to this number, floats are one apart, so that adding it rounds.
    const ONE_APART: f64 = (3_u64 << 51) as f64;
    if value.abs() < (1_u64 << 51) as f64 {
        (value + ONE_APART) - ONE_APART
    } else {
        value.round_ties_even()
    }
}

impl Moments {
    /// What `squares` is written without: the square of a single value, unless people read it.
    fn single(&self, readable: bool) -> i128 {
        match self.count == 1 && !readable {
            true => self.sum.wrapping_mul(self.sum),
            false => 0,
        }
    }

    /// Counts one value; NaN is missing and counts nothing.
    #[inline]
    pub fn count_value(&mut self, value: f32) {
        if value.is_nan() {
            return;
        }
        let steps =
            round(f64::from(value) * FEATURE_STEPS).clamp(-FEATURE_LIMIT, FEATURE_LIMIT) as i64;
        self.count += 1;
        self.sum += i128::from(steps);
        // Two values of up to 2⁶² multiply to 2¹²⁴; the saturation only matters beyond 2¹⁰ of those.
        self.squares = self
            .squares
            .saturating_add(i128::from(steps) * i128::from(steps));
    }

    /// Mean in the feature's unit.
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum as f64 / FEATURE_STEPS / self.count as f64)
    }

    /// Variance (of the population) in the feature's unit squared.
    pub fn variance(&self) -> Option<f64> {
        let count = (self.count > 0).then_some(i128::from(self.count))?;
        // In whole numbers, so that what never varies has no variance at all.
        let exact = count
            .checked_mul(self.squares)
            .zip(self.sum.checked_mul(self.sum));
        let steps = match exact {
            Some((squares, square)) => (squares - square) as f64 / (count as f64).powi(2),
            None => self.squares as f64 / count as f64 - (self.sum as f64 / count as f64).powi(2),
        };
        Some((steps / (FEATURE_STEPS * FEATURE_STEPS)).max(0.0))
    }

    fn add(&mut self, other: &Moments) {
        self.count += other.count;
        self.sum += other.sum;
        self.squares = self.squares.saturating_add(other.squares);
    }

    fn negate(&mut self) {
        self.count = -self.count;
        self.sum = -self.sum;
        self.squares = self.squares.saturating_neg();
    }
}

/// What a task's statistics moved by. The empty one is zero.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TaskDifference {
    /// Samples whose label is known, those of the bootstrap among them.
    pub labelled: i64,
    /// The pipeline's own predictions.
    pub score: Score,
    /// The baselines' predictions of the same samples, in the order of the config.
    pub baselines: Vec<Score>,
    /// Confusion cells, row by row: label × classes + prediction. None where the label is a number.
    pub confusion: Vec<i64>,
    /// Where the label is a number, the labels of the scored predictions.
    pub labels: Moments,
    /// One a feature, over the labelled samples.
    pub moments: Vec<Moments>,
}

/// Adds column by column; a shorter column is one that ends in zeros.
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
    /// How well predictions did, without confusion and moments.
    #[must_use]
    pub fn scores(&self) -> TaskScores {
        TaskScores {
            labelled: self.labelled,
            score: self.score,
        }
    }

    /// The share of the labels' variance that the predictions of a score explain: 1 less their mean squared error by
    /// it (R²). None where labels do not vary.
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

#[cfg(test)]
mod tests {
    use super::round;

    #[test]
    fn rounding_is_to_the_nearest_even() {
        let mut value = 1e-3_f64;
        while value < 1e19 {
            for near in [value, value + 0.5, value.floor() + 0.5, value.floor()] {
                for signed in [near, -near] {
                    assert_eq!(round(signed), signed.round_ties_even(), "{signed}");
                }
            }
            value *= 1.37;
        }
        assert!(round(f64::INFINITY).is_infinite());
    }
}

/// By what losses have risen.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rise {
    /// The mean loss before: a share of wrong predictions, or the mean size of an error in the label's unit. Of features, how
    /// strange samples looked, a half if they looked like those before.
    pub before: f32,
    /// The mean loss since.
    pub after: f32,
    /// How many labels came since; of features none, since it tells at once.
    pub samples: i64,
}

/// What some predictions lost: 1 for a wrong class, the size of the error for a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Losses {
    /// How many.
    pub count: i64,
    /// Their sum.
    pub sum: f64,
    /// The sum of their squares.
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

    /// What a loss is measured by: 1 is the most that a wrong class loses; of numbers it is the root of the mean square.
    pub(crate) fn unit(&self, kind: LabelKind) -> f64 {
        match kind {
            LabelKind::Classes(_) => 1.0,
            LabelKind::Number => (self.squares / self.count.max(1) as f64).sqrt(),
        }
    }
}

/// How a task stands: the sums over all labels that there ever were, and over its latest ones.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Standing {
    /// All labels.
    pub total: TaskScores,
    /// The latest ones.
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

/// The current standing of a task.
pub type View = (TaskId, Standing);
