//! Labels: one of some classes, or a number.
//!
//! A label travels as one `f32`: the number of its class, from 0, or the number itself. A
//! prediction is a row of [`LabelKind::width`] values. Losses are counted in nats for both kinds,
//! so that weights, judges and gates treat both alike.
//!
//! The loss of a number is the negative log density, up to a constant, of the distribution that is
//! normal in the middle and exponential beyond 3 scales (Huber 1964, "Robust Estimation of a
//! Location Parameter", §4): half the squared error in scales in the middle, linear beyond. A label
//! that is far off therefore decides nothing alone.

use serde::{Deserialize, Serialize};

/// Kind of the label: what is predicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LabelKind {
    /// One of this many classes, numbered from 0.
    Classes(usize),
    /// A number.
    Number,
}

impl LabelKind {
    /// Number of values of a prediction: one probability a class, or the number itself.
    pub fn width(self) -> usize {
        match self {
            LabelKind::Classes(classes) => classes,
            LabelKind::Number => 1,
        }
    }

    /// Kind of a label with these classes; a number if there are none.
    pub fn of(classes: &[String]) -> LabelKind {
        match classes.len() {
            0 => LabelKind::Number,
            classes => LabelKind::Classes(classes),
        }
    }
}

/// Largest magnitude of a label that is a number: the squares of errors then fit into an `f32`.
pub const LARGEST_NUMBER: f32 = 1e18;

/// Largest magnitude of a feature. XGBoost puts its last threshold at about twice the greatest
/// value of a feature, and cannot write a model whose thresholds are infinite.
pub const LARGEST_FEATURE: f32 = 1e38;

/// Errors above this many scales lose linearly, not quadratically (Huber's knee).
const KNEE: f32 = 3.0;
/// Errors are clamped to this many scales.
const MOST_SCALES: f32 = 100.0;
/// Median of the absolute error of a normal distribution with a standard deviation of 1.
const MEDIAN_OF_NORMAL: f32 = 0.674_49;

/// `error / scale`, clamped to ±100; NaN counts as 100.
pub fn in_scales(error: f32, scale: f32) -> f32 {
    let error = error / scale;
    if error.is_nan() {
        MOST_SCALES
    } else {
        error.clamp(-MOST_SCALES, MOST_SCALES)
    }
}

/// Loss of a predicted number that is off by `error`, nats. `scale` is in the label's unit.
///
/// ```
/// use perennial_operators::number_loss;
///
/// assert_eq!(number_loss(-4.0, 2.0), 2.0); // 2 scales off: half the square
/// assert_eq!(number_loss(20.0, 2.0), 25.5); // 10 scales off: 3 nats a scale
/// ```
pub fn number_loss(error: f32, scale: f32) -> f32 {
    let error = in_scales(error, scale).abs();
    if error <= KNEE {
        error * error / 2.0
    } else {
        KNEE * (error - KNEE / 2.0)
    }
}

/// Scale of a label that is a number: about the standard deviation of an error, in the label's
/// unit.
///
/// `errors` are those of the first model on samples that it was not fitted on, `labels` those that
/// it was fitted on. Medians keep the scale steady when a few values are far off. If all errors are
/// 0, the spread of the labels takes their place; if that is 0 too, the scale is 1. It only is a
/// unit: it must be positive, not exact.
pub fn scale(errors: &[f32], labels: &[f32]) -> f32 {
    let middle = median(labels);
    let deviations: Vec<f32> = labels.iter().map(|label| label - middle).collect();
    let by_median = |errors: &[f32]| {
        let sizes: Vec<f32> = errors.iter().map(|error| error.abs()).collect();
        median(&sizes) / MEDIAN_OF_NORMAL
    };
    let candidates = [
        by_median(errors),
        by_median(&deviations),
        root_mean_square(&deviations),
    ];
    let positive = |scale: &f32| scale.is_finite() && *scale > f32::MIN_POSITIVE;
    candidates.into_iter().find(positive).unwrap_or(1.0)
}

/// Median; the upper one of two, 0 if there are no values.
fn median(values: &[f32]) -> f32 {
    let mut values = values.to_vec();
    let half = values.len() / 2;
    if values.is_empty() {
        0.0
    } else {
        *values.select_nth_unstable_by(half, f32::total_cmp).1
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
    fn loss_is_quadratic_in_the_middle_and_linear_beyond() {
        assert_eq!(number_loss(0.0, 2.0), 0.0);
        assert_eq!(number_loss(-4.0, 2.0), 2.0);
        // At the knee both parts agree in value and in slope.
        assert!((number_loss(3.0 + 1e-3, 1.0) - (4.5 + 3e-3)).abs() < 1e-5);
        assert_eq!(number_loss(f32::INFINITY, 1.0), 295.5);
        assert_eq!(number_loss(f32::NAN, 1.0), 295.5);
        assert_eq!(in_scales(f32::NEG_INFINITY, 1.0), -100.0);
    }

    #[test]
    fn scale_is_that_of_usual_errors() {
        let errors: Vec<f32> = (-500..=500).map(|at| at as f32 / 500.0).collect();
        let found = scale(&errors, &[]);
        // Of errors uniform on ±1, the median size is 0.5.
        assert!((found - 0.5 / MEDIAN_OF_NORMAL).abs() < 0.01, "{found}");
        let mut wild = errors.clone();
        wild.extend([1e30, -1e38, 1e20]);
        assert!((scale(&wild, &[]) / found - 1.0).abs() < 0.01);
    }

    #[test]
    fn scale_is_positive_whatever_the_labels() {
        assert_eq!(scale(&[], &[]), 1.0);
        assert_eq!(scale(&[0.0; 9], &[5.0; 9]), 1.0);
        // Errors of 0: the labels' own spread, by its median or else its root mean square.
        assert!((scale(&[0.0; 9], &[1.0, 2.0, 3.0]) - 1.0 / MEDIAN_OF_NORMAL).abs() < 1e-5);
        assert_eq!(scale(&[], &[7.0, 7.0, 7.0, 9.0]), 1.0);
        assert!(scale(&[f32::MAX; 3], &[f32::MAX, f32::MIN, 0.0]).is_finite());
    }
}
