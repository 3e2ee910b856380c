//! Probes of the answer: how unsure it is (Hendrycks & Gimpel 2017, "A baseline for detecting misclassified and
//! out-of-distribution examples in neural networks", §2).

/// One less the highest probability.
pub(super) fn probability(answer: &[f32]) -> f32 {
    1.0 - answer.iter().copied().fold(0.0, f32::max)
}

/// The entropy of the probabilities, nats.
pub(crate) fn entropy(answer: &[f32]) -> f32 {
    let there = answer.iter().filter(|probability| **probability > 0.0);
    -there
        .map(|probability| probability * probability.ln())
        .sum::<f32>()
}
