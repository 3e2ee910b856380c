//! Paired comparison of two models on the same samples.

/// By how much less a model lost on a sample than another.
#[derive(Clone, Copy, Debug)]
pub struct PairedGain {
    /// Nats.
    pub gain: f64,
    /// How many samples the sample stands for.
    pub weight: f64,
}

/// The mean of mean_and_error differences and its standard error, that of a weighted mean (Cochran, *Sampling Techniques*, 1977,
/// on ratios; here of all that the samples stand for).
pub(super) fn mean_and_error(gains: &[PairedGain]) -> (f64, f64) {
    let all: f64 = gains.iter().map(|one| one.weight).sum();
    let sum: f64 = gains.iter().map(|one| one.weight * one.gain).sum();
    let mean = sum / all;
    let squares =
        |of: &dyn Fn(&PairedGain) -> f64| gains.iter().map(|one| of(one).powi(2)).sum::<f64>();
    let deviations = squares(&|one| one.weight * (one.gain - mean));
    let weights = squares(&|one| one.weight);
    let error = (deviations / (effective_sample_size(gains) - 1.0).max(1.0) / weights).sqrt();
    (mean, error)
}

/// How many samples that all count the same would tell as much (Kish, *Survey Sampling*, 1965).
pub(super) fn effective_sample_size(gains: &[PairedGain]) -> f64 {
    let all: f64 = gains.iter().map(|one| one.weight).sum();
    let squares: f64 = gains.iter().map(|one| one.weight.powi(2)).sum();
    if squares > 0.0 {
        all * all / squares
    } else {
        0.0
    }
}
