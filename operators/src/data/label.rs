//! What a label is: one of some classes, or a number.
//!
//! A label travels as one `f32`, the number of its class or the number itself, and an answer as a row of as many values
//! as the label is [wide](LabelKind::width). What an answer loses is counted in nats for both, so that weights, judges
//! and gates do the same with both. For a number these are the nats of the distribution that is normal in the middle
//! and exponential beyond [`KNEE`] scales (Huber 1964, "Robust Estimation of a Location Parameter", §4): half the
//! squared error in scales there, and no more than in proportion to the error beyond, so that a label that is far off
//! decides nothing alone.

use serde::{Deserialize, Serialize};

/// What is predicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LabelKind {
    /// One of so many classes.
    Classes(usize),
    /// A number.
    Number,
}

impl LabelKind {
    /// How many values an answer has: a probability for each class, or the number.
    pub fn width(self) -> usize {
        match self {
            LabelKind::Classes(classes) => classes,
            LabelKind::Number => 1,
        }
    }

    /// The kind of a label that has these classes; without any it is a number.
    pub fn of(classes: &[String]) -> LabelKind {
        match classes.len() {
            0 => LabelKind::Number,
            classes => LabelKind::Classes(classes),
        }
    }
}

/// The largest label that is a number, without its sign: the squares of errors fit into 32 bits.
pub const LARGEST_NUMBER: f32 = 1e18;

/// Beyond so many scales a loss grows with the error and no longer with its square.
const KNEE: f32 = 3.0;
/// The most scales that an error counts as.
const MOST_SCALES: f32 = 100.0;
/// What the median of an error without its sign is to the standard deviation of a normal distribution.
const MEDIAN_OF_NORMAL: f32 = 0.674_49;

/// An error in scales, within bounds; what is no number is as far off as can be.
pub fn in_scales(error: f32, scale: f32) -> f32 {
    let error = error / scale;
    match error.is_nan() {
        true => MOST_SCALES,
        false => error.clamp(-MOST_SCALES, MOST_SCALES),
    }
}

/// What an answer that is off by `error` loses, nats.
pub fn number_loss(error: f32, scale: f32) -> f32 {
    let error = in_scales(error, scale).abs();
    match error <= KNEE {
        true => error * error / 2.0,
        false => KNEE * (error - KNEE / 2.0),
    }
}

/// The scale of a label, from errors of the first model on samples that it was not fitted on and from the labels that
/// it was fitted on: about the standard deviation of an error, of which a few that are far off change next to nothing.
/// It only is a unit, so that where all errors are nothing it need not be good but positive.
pub fn scale(errors: &[f32], labels: &[f32]) -> f32 {
    let middle = middle(labels);
    let off: Vec<f32> = labels.iter().map(|label| label - middle).collect();
    let usual = |errors: &[f32]| {
        let sizes: Vec<f32> = errors.iter().map(|error| error.abs()).collect();
        self::middle(&sizes) / MEDIAN_OF_NORMAL
    };
    let candidates = [usual(errors), usual(&off), root_mean_square(&off)];
    let positive = |scale: &f32| scale.is_finite() && *scale > f32::MIN_POSITIVE;
    candidates.into_iter().find(positive).unwrap_or(1.0)
}

/// The median, the upper one of two; 0 of nothing.
fn middle(values: &[f32]) -> f32 {
    let mut values = values.to_vec();
    let half = values.len() / 2;
    match values.is_empty() {
        true => 0.0,
        false => *values.select_nth_unstable_by(half, f32::total_cmp).1,
    }
}

fn root_mean_square(values: &[f32]) -> f32 {
    let squares: f64 = values.iter().map(|value| f64::from(*value).powi(2)).sum();
    (squares / values.len().max(1) as f64).sqrt() as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_is_normal_in_the_middle_and_bounded_beyond() {
        assert_eq!(number_loss(0.0, 2.0), 0.0);
        assert_eq!(number_loss(-4.0, 2.0), 2.0);
        // Where the two parts meet they agree, and the slope is the same.
        assert!((number_loss(3.0 + 1e-3, 1.0) - (4.5 + 3e-3)).abs() < 1e-5);
        assert_eq!(number_loss(f32::INFINITY, 1.0), 295.5);
        assert_eq!(number_loss(f32::NAN, 1.0), 295.5);
        assert_eq!(in_scales(f32::NEG_INFINITY, 1.0), -100.0);
    }

    #[test]
    fn a_scale_is_that_of_usual_errors() {
        let errors: Vec<f32> = (-500..=500).map(|at| at as f32 / 500.0).collect();
        let found = scale(&errors, &[]);
        // Uniform on ±1, the median of sizes is a half.
        assert!((found - 0.5 / MEDIAN_OF_NORMAL).abs() < 0.01, "{found}");
        let mut wild = errors.clone();
        wild.extend([1e30, -1e38, 1e20]);
        assert!((scale(&wild, &[]) / found - 1.0).abs() < 0.01);
    }

    #[test]
    fn a_scale_is_positive_whatever_the_labels() {
        assert_eq!(scale(&[], &[]), 1.0);
        assert_eq!(scale(&[0.0; 9], &[5.0; 9]), 1.0);
        // Errors of nothing: the labels' own spread, by their median or else in the mean.
        assert!((scale(&[0.0; 9], &[1.0, 2.0, 3.0]) - 1.0 / MEDIAN_OF_NORMAL).abs() < 1e-5);
        assert_eq!(scale(&[], &[7.0, 7.0, 7.0, 9.0]), 1.0);
        assert!(scale(&[f32::MAX; 3], &[f32::MAX, f32::MIN, 0.0]).is_finite());
    }
}
