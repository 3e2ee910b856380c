//! Judging: compares a candidate with the incumbent on samples that no model was fitted on.

use ndarray::Array2;
use perennial_connectors::trainer::{ExamineError, Origin};
use perennial_operators::flow::ModelEvaluated;
use perennial_operators::{LabelKind, ModelId, RetainedSample, TaskId, scale};

use super::context::TrainingContext;
use super::losses::{Losses, foreign_outputs, losses, losses_of, outputs};
use super::paired_gain::{LEAST_SAMPLES, PairedGain, effective_sample_size, mean_and_error};
use super::split::Split;

/// A model that is judged: a candidate, or the incumbent.
pub struct JudgedModel<'a> {
    /// Id of the model.
    pub model: ModelId,
    /// Its ONNX bytes.
    pub onnx: &'a [u8],
    /// Whether it was made elsewhere, and nothing here depends on it yet.
    pub is_foreign: bool,
}

impl JudgedModel<'_> {
    fn outputs(
        &self,
        context: &TrainingContext,
        samples: &[RetainedSample],
    ) -> Result<Array2<f32>, ExamineError> {
        match self.is_foreign {
            // As a donor it was looked at by where it comes from.
            true => foreign_outputs(context, self.onnx, Origin::Cloud, samples),
            false => Ok(outputs(context, self.onnx, samples)?),
        }
    }
}

/// What judging found.
pub struct Judgement {
    /// The figures, for the knowledge base.
    pub evaluated: ModelEvaluated,
    /// Whether the candidate is to be deployed.
    pub deploys: bool,
    /// Why it is or is not.
    pub why: String,
    /// Gain of the candidate over the incumbent on each judged sample; empty without an incumbent.
    pub gains: Vec<PairedGain>,
}

/// Judges a candidate by its mean loss on held-back samples.
///
/// For the base task, the incumbent is the model's predecessor, fitted on fewer samples: the loss
/// may not be higher by more than one standard error of the paired differences. For any other task,
/// the incumbent is the nearest ancestor's model: the loss must be lower by more than one standard
/// error. On few samples a candidate is easily better by luck, and a model that only seems better
/// would be negative transfer.
///
/// The best of `candidates` has had as many chances of luck, each bounded by the tail exp(−z²/2) of
/// the normal distribution. So the loss must be lower by √(1 + 2 ln candidates) standard errors.
///
/// A model whose outputs are no distributions (no finite numbers, if the label is one) loses to
/// everything: as a candidate it is an error, as an incumbent it does not count.
///
/// Where the label is a number, losses are in units of `scale`; the first model of all sets it.
///
/// # Errors
/// The candidate does not run on the held-back samples.
pub fn judge(
    context: &TrainingContext,
    candidate: JudgedModel<'_>,
    incumbent: Option<JudgedModel<'_>>,
    candidates: usize,
    split: &Split,
    scale: Option<f32>,
) -> Result<Judgement, ExamineError> {
    let held_back = &split.judged;
    let scale = match (context.kind, scale) {
        (LabelKind::Classes(_), _) => None,
        (LabelKind::Number, Some(scale)) => Some(scale),
        (LabelKind::Number, None) => Some(first_scale(context, &candidate, split)?),
    };
    let own = candidate.outputs(context, held_back)?;
    let own = losses_of(context, &own, held_back, scale);
    let mut why_none = "nothing answered before".to_string();
    let other = incumbent.as_ref().and_then(|incumbent| {
        losses(context, incumbent.onnx, held_back, scale)
            .inspect_err(|error| why_none = format!("what answered before failed: {error}"))
            .ok()
    });
    let gains = other.as_ref().map(|other| own.gains(other));
    let measured = || other.as_ref().filter(|_| !held_back.is_empty());
    let evaluated = ModelEvaluated {
        model: candidate.model,
        incumbent: incumbent.as_ref().map(|incumbent| incumbent.model),
        samples: held_back.len() as u64,
        effective_samples: gains.as_deref().map_or(0.0, effective_sample_size),
        accuracy: own.accuracy(),
        log_loss: own.mean().unwrap_or(0.0),
        rmse: own.rmse(),
        incumbent_accuracy: measured().and_then(Losses::accuracy),
        incumbent_log_loss: measured().and_then(Losses::mean),
        incumbent_rmse: measured().and_then(Losses::rmse),
        scale,
    };
    let (deploys, why) = match &gains {
        None => (true, why_none),
        Some(gains) => verdict(context.kind, candidate.model.task, candidates, gains),
    };
    Ok(Judgement {
        evaluated,
        deploys,
        why,
        gains: gains.unwrap_or_default(),
    })
}

/// Whether a candidate of a task is to be deployed by its gains, and why it is or is not.
fn verdict(
    kind: LabelKind,
    task: TaskId,
    candidates: usize,
    gains: &[PairedGain],
) -> (bool, String) {
    let effective = effective_sample_size(gains);
    if effective < LEAST_SAMPLES as f64 {
        return (false, format!("only {effective:.0} samples to judge it on"));
    }
    let (gain, error) = mean_and_error(gains);
    let margin = if task == TaskId::BASE {
        -error
    } else {
        error * (1.0 + 2.0 * (candidates as f64).ln()).sqrt()
    };
    let is_better = gain > margin;
    let verdict = match (is_better, gain > 0.0) {
        (true, true) => "better",
        (true, false) => "as good",
        (false, _) => "not better",
    };
    let loss = match kind {
        LabelKind::Classes(_) => "log loss",
        LabelKind::Number => "loss",
    };
    let samples = gains.len();
    let why = format!("{verdict}: {loss} lower by {gain:.4} ± {error:.4} on {samples} samples");
    (is_better, why)
}

/// Scale of a number, by the errors of the first model.
fn first_scale(
    context: &TrainingContext,
    candidate: &JudgedModel<'_>,
    split: &Split,
) -> Result<f32, ExamineError> {
    // With few samples their errors are left out, and the scale comes from the labels alone.
    let judged = match split.judged.len() {
        ..LEAST_SAMPLES => &[],
        _ => split.judged.as_slice(),
    };
    let outputs = candidate.outputs(context, judged)?;
    let pairs = outputs.iter().zip(judged);
    let errors: Vec<f32> = pairs
        .map(|(output, sample)| output - sample.label)
        .collect();
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
    fn equal_weights_give_the_unweighted_mean_and_error() {
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
    fn one_heavy_sample_lowers_the_effective_sample_size() {
        let uneven = gains(&[(0.1, 10.0), (0.3, 1.0), (0.2, 1.0), (0.4, 1.0)]);
        let (mean, error) = mean_and_error(&uneven);
        assert!((mean - 1.9 / 13.0).abs() < 1e-12);
        assert!((effective_sample_size(&uneven) - 169.0 / 103.0).abs() < 1e-12);
        // Below two effective samples the divisor stays 1; the squares of all weights divide too.
        let spread = [(0.1, 10.0), (0.3, 1.0), (0.2, 1.0), (0.4, 1.0)]
            .map(|(gain, weight)| (weight * (gain - mean)).powi(2));
        let expected = (spread.iter().sum::<f64>() / 103.0).sqrt();
        assert!((error - expected).abs() < 1e-12);
        assert_eq!(effective_sample_size(&[]), 0.0);
    }
}
