//! Probes of the answer: how unsure it is (Hendrycks & Gimpel 2017, "A baseline for detecting misclassified and
//! out-of-distribution examples in neural networks", §2).

/// How many methods there are.
pub const METHODS: usize = 5;

/// A way to score how strange a sample is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// How far its features are from the nearest centre of a task, in units of how samples lie around these.
    Density,
    /// How far its features are from the nearest known samples.
    Nearest,
    /// One less the probability of the class that is predicted.
    Probability,
    /// The entropy of the classes' probabilities.
    Entropy,
    /// How much the models and adapters along its path, and its neighbours, disagree.
    Disagreement,
}

impl Method {
    /// All of them.
    pub const ALL: [Method; METHODS] = [
        Method::Density,
        Method::Nearest,
        Method::Probability,
        Method::Entropy,
        Method::Disagreement,
    ];

    /// The name in configs and predictions.
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

/// One less the highest probability.
pub(crate) fn probability(answer: &[f32]) -> f32 {
    1.0 - answer.iter().copied().fold(0.0, f32::max)
}

/// The entropy of the probabilities, nats.
pub(crate) fn entropy(answer: &[f32]) -> f32 {
    let there = answer.iter().filter(|probability| **probability > 0.0);
    -there
        .map(|probability| probability * probability.ln())
        .sum::<f32>()
}
