//! Paired comparison of two models on the same samples.

/// Held-back samples that a candidate must be judged on before it replaces anything.
pub(super) const LEAST_SAMPLES: usize = 10;

/// Difference of the losses of two models on one sample.
#[derive(Clone, Copy, Debug)]
pub struct PairedGain {
    /// Loss of the other model minus loss of the own one, nats: above zero, the own one is better.
    pub gain: f64,
    /// Number of samples that the sample stands for.
    pub weight: f64,
}

/// Weighted mean of the gains and its standard error (Cochran, *Sampling Techniques*, 1977, on
/// ratios; here of all samples that the given ones stand for).
pub(super) fn mean_and_error(gains: &[PairedGain]) -> (f64, f64) {
    let total: f64 = gains.iter().map(|one| one.weight).sum();
    let sum: f64 = gains.iter().map(|one| one.weight * one.gain).sum();
    let mean = sum / total;
    let squares =
        |of: &dyn Fn(&PairedGain) -> f64| gains.iter().map(|one| of(one).powi(2)).sum::<f64>();
    let deviations = squares(&|one| one.weight * (one.gain - mean));
    let weights = squares(&|one| one.weight);
    let error = (deviations / (effective_sample_size(gains) - 1.0).max(1.0) / weights).sqrt();
    (mean, error)
}

/// Number of equally weighted samples that would be as informative (Kish, *Survey Sampling*, 1965);
/// 0 without gains.
pub(super) fn effective_sample_size(gains: &[PairedGain]) -> f64 {
    let total: f64 = gains.iter().map(|one| one.weight).sum();
    let squares: f64 = gains.iter().map(|one| one.weight.powi(2)).sum();
    if squares > 0.0 {
        total * total / squares
    } else {
        0.0
    }
}
