//! Methods of recognition: scores of how novel a sample is.
//!
//! Two methods score features against a [reference](super::Reference); three probe the prediction:
//! how unsure it is (Hendrycks & Gimpel 2017, "A baseline for detecting misclassified and
//! out-of-distribution examples in neural networks", §2) and how much experts disagree on it.

/// Number of methods.
pub const METHODS: usize = 5;

/// Method to score how novel a sample is; higher scores are more novel.
///
/// ```
/// use perennial_operators::algorithms::recognize::Method;
///
/// let names = Method::ALL.map(Method::name);
/// assert_eq!(names, ["density", "nearest", "probability", "entropy", "disagreement"]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Squared Mahalanobis distance of its features to the nearest task's centre, by the number of
    /// features.
    Density,
    /// Mean squared distance of its features to the third nearest known sample, in standard
    /// deviations.
    Nearest,
    /// 1 − probability of the predicted class.
    Probability,
    /// Entropy of the classes' probabilities, nats.
    Entropy,
    /// Disagreement of the models along its path, and its neighbours.
    Disagreement,
}

impl Method {
    /// All methods, by number.
    pub const ALL: [Method; METHODS] = [
        Method::Density,
        Method::Nearest,
        Method::Probability,
        Method::Entropy,
        Method::Disagreement,
    ];

    /// Name in configs and predictions.
    pub fn name(self) -> &'static str {
        match self {
            Method::Density => "density",
            Method::Nearest => "nearest",
            Method::Probability => "probability",
            Method::Entropy => "entropy",
            Method::Disagreement => "disagreement",
        }
    }
}

/// 1 − the highest probability.
pub(crate) fn probability(probabilities: &[f32]) -> f32 {
    1.0 - probabilities.iter().copied().fold(0.0, f32::max)
}

/// Entropy of the probabilities, nats.
pub(crate) fn entropy(probabilities: &[f32]) -> f32 {
    let positive = probabilities
        .iter()
        .filter(|probability| **probability > 0.0);
    -positive
        .map(|probability| probability * probability.ln())
        .sum::<f32>()
}
