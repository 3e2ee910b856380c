//! Judging: a candidate against what answers now, on samples that no model was fitted on.

use perennial_connectors::onnx::OnnxError;
use perennial_operators::flow::ModelEvaluated;
use perennial_operators::{LabelKind, ModelId, TaskId, scale};

use super::comparison::{PairedGain, effective_sample_size, mean_and_error};
use super::context::TrainingContext;
use super::losses::{Losses, answers, losses};
use super::split::Split;

/// A model that is judged.
pub struct Incumbent<'a> {
    /// Which model.
    pub model: ModelId,
    /// Its ONNX bytes.
    pub onnx: &'a [u8],
}

/// What judging found.
pub struct Judgement {
    /// The figures.
    pub evaluated: ModelEvaluated,
    /// Whether the candidate takes over.
    pub deploys: bool,
    /// Why or why not.
    pub why: String,
    /// By how much less it lost than the rival, sample by sample; nothing without a rival.
    pub gains: Vec<PairedGain>,
}

/// Held-back samples that a candidate must be judged on before it replaces anything.
pub(super) const LEAST_SAMPLES: usize = 10;

/// Judges a candidate by its mean loss and one standard error of the mean_and_error differences. For the base
/// task it must not be higher by more than that than its model before, which has seen less. For any
/// other it must be lower than the ancestor's by more than that: on a few samples a candidate is
/// easily better by luck, and a model that only seems better would be negative transfer. Where it is the
/// best of several `candidates`, luck has had as many chances, each of which the normal distribution's tail bounds by
/// exp(−z²/2): so it must be better by √(1 + 2 ln candidates) standard errors.
///
/// Where the label is a number, losses are measured by its `scale`; the first model of all sets it.
pub fn judge(
    workshop: &TrainingContext,
    candidate: Incumbent<'_>,
    incumbent: Option<Incumbent<'_>>,
    candidates: usize,
    split: &Split,
    scale: Option<f32>,
) -> Result<Judgement, OnnxError> {
    let held_back = &split.judged;
    let scale = match (workshop.kind, scale) {
        (LabelKind::Classes(_), _) => None,
        (LabelKind::Number, Some(scale)) => Some(scale),
        (LabelKind::Number, None) => Some(first_scale(workshop, candidate.onnx, split)?),
    };
    let own = losses(workshop, candidate.onnx, held_back, scale)?;
    let other = match &incumbent {
        Some(rival) => Some(losses(workshop, rival.onnx, held_back, scale)?),
        None => None,
    };
    let gains = other.as_ref().map(|other| own.gains(other));
    let known = || other.as_ref().filter(|_| !held_back.is_empty());
    let evaluated = ModelEvaluated {
        model: candidate.model,
        incumbent: incumbent.as_ref().map(|rival| rival.model),
        samples: held_back.len() as u64,
        effective_samples: gains.as_deref().map_or(0.0, effective_sample_size),
        accuracy: own.accuracy(),
        log_loss: own.mean().unwrap_or(0.0),
        rmse: own.rmse(),
        incumbent_accuracy: known().and_then(Losses::accuracy),
        incumbent_log_loss: known().and_then(Losses::mean),
        incumbent_rmse: known().and_then(Losses::rmse),
        scale,
    };
    let (deploys, why) = match &gains {
        None => (true, "nothing answered before".to_string()),
        Some(gains) if effective_sample_size(gains) < LEAST_SAMPLES as f64 => (
            false,
            format!(
                "only {:.0} samples to judge it on",
                effective_sample_size(gains)
            ),
        ),
        Some(gains) => {
            let (gain, error) = mean_and_error(gains);
            let margin = if candidate.model.task == TaskId::BASE {
                -error
            } else {
                error * (1.0 + 2.0 * (candidates as f64).ln()).sqrt()
            };
            let better = gain > margin;
            let verdict = match (better, gain > 0.0) {
                (true, true) => "better",
                (true, false) => "as good",
                (false, _) => "not better",
            };
            let loss = match workshop.kind {
                LabelKind::Classes(_) => "log loss",
                LabelKind::Number => "loss",
            };
            let why = format!(
                "{verdict}: {loss} lower by {gain:.4} ± {error:.4} on {} samples",
                held_back.len()
            );
            (better, why)
        }
    };
    Ok(Judgement {
        evaluated,
        deploys,
        why,
        gains: gains.unwrap_or_default(),
    })
}

/// The scale of a number, by the first model.
fn first_scale(workshop: &TrainingContext, onnx: &[u8], split: &Split) -> Result<f32, OnnxError> {
    let samples = match split.judged.len() {
        ..LEAST_SAMPLES => &[],
        _ => split.judged.as_slice(),
    };
    let answers = answers(workshop, onnx, samples)?;
    let errors = answers.iter().zip(samples);
    let errors: Vec<f32> = errors.map(|(said, sample)| said - sample.label).collect();
    let labels: Vec<f32> = split.fitted.iter().map(|sample| sample.label).collect();
    Ok(scale(&errors, &labels))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gains(of: &[(f64, f64)]) -> Vec<PairedGain> {
        of.iter()
            .map(|(gain, weight)| PairedGain {
                gain: *gain,
                weight: *weight,
            })
            .collect()
    }

    #[test]
    fn what_weighs_the_same_counts_the_same() {
        let values = [0.3, -0.1, 0.25, 0.8, -0.4];
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|gain| (gain - mean).powi(2)).sum();
        let error = (squares / (count - 1.0) / count).sqrt();
        let weighted = |weight| gains(&values.map(|gain| (gain, weight)));
        assert_eq!(mean_and_error(&weighted(1.0)), (mean, error));
        let (other_mean, other_error) = mean_and_error(&weighted(7.0));
        assert!((other_mean - mean).abs() < 1e-12 && (other_error - error).abs() < 1e-12);
        assert_eq!(effective_sample_size(&weighted(1.0)), count);
    }

    #[test]
    fn a_sample_that_weighs_much_makes_the_others_count_little() {
        let uneven = gains(&[(0.1, 10.0), (0.3, 1.0), (0.2, 1.0), (0.4, 1.0)]);
        let (mean, error) = mean_and_error(&uneven);
        assert!((mean - 1.9 / 13.0).abs() < 1e-12);
        assert!((effective_sample_size(&uneven) - 169.0 / 103.0).abs() < 1e-12);
        // Fewer than two are as good as one, and the spread is over all that weighs.
        let spread = [(0.1, 10.0), (0.3, 1.0), (0.2, 1.0), (0.4, 1.0)]
            .map(|(gain, weight)| (weight * (gain - mean)).powi(2));
        let expected = (spread.iter().sum::<f64>() / 103.0).sqrt();
        assert!((error - expected).abs() < 1e-12);
        assert_eq!(effective_sample_size(&[]), 0.0);
    }
}
