//! Judging: a candidate against what answers now, on samples that no model was fitted on.

use ndarray::Array2;
use perennial_connectors::onnx::OnnxError;
use perennial_operators::flow::predicted_class;
use perennial_operators::{ModelEvaluated, ModelId, RetainedSample, Score, TaskId};

use super::learner::Workshop;

/// A model that is judged.
pub struct Rival<'a> {
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
    pub gains: Vec<f64>,
}

/// Held-back samples that a candidate must be judged on before it replaces anything.
pub(super) const LEAST_SAMPLES: usize = 10;

/// Judges a candidate by its log loss and one standard error of the paired differences. For the base
/// task it must not be higher by more than that than its model before, which has seen less. For any
/// other it must be lower than the ancestor's by more than that: on a few samples a candidate is
/// easily better by luck, and a model that only seems better would be negative transfer. Where it is the
/// best of several `candidates`, luck has had as many chances, each of which the normal distribution's tail bounds by
/// exp(−z²/2): so it must be better by √(1 + 2 ln candidates) standard errors.
pub fn judge(
    workshop: &Workshop,
    candidate: Rival<'_>,
    incumbent: Option<Rival<'_>>,
    candidates: usize,
    held_back: &[RetainedSample],
) -> Result<Judgement, OnnxError> {
    let own = losses(workshop, candidate.onnx, held_back)?;
    let other = match &incumbent {
        Some(rival) => Some(losses(workshop, rival.onnx, held_back)?),
        None => None,
    };
    let gains = other.as_ref().map(|other| own.gains(other));
    let evaluated = ModelEvaluated {
        model: candidate.model,
        incumbent: incumbent.as_ref().map(|rival| rival.model),
        samples: held_back.len() as u64,
        accuracy: own.score.accuracy().unwrap_or(0.0),
        log_loss: own.score.log_loss().unwrap_or(0.0),
        incumbent_accuracy: other.as_ref().and_then(|other| other.score.accuracy()),
        incumbent_log_loss: other.as_ref().and_then(|other| other.score.log_loss()),
    };
    let (deploys, why) = match &gains {
        None => (true, "nothing answered before".to_string()),
        Some(_) if held_back.len() < LEAST_SAMPLES => (
            false,
            format!("only {} samples to judge it on", held_back.len()),
        ),
        Some(gains) => {
            let (gain, error) = paired(gains);
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
            let why = format!(
                "{verdict}: log loss lower by {gain:.4} ± {error:.4} on {} samples",
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

/// The features of samples as one matrix: samples × features.
pub fn samples_matrix(samples: &[RetainedSample], features: usize) -> Array2<f32> {
    let mut matrix = Array2::from_elem((samples.len(), features), f32::NAN);
    for (mut row, sample) in matrix.rows_mut().into_iter().zip(samples) {
        for (cell, value) in row.iter_mut().zip(&sample.features) {
            *cell = *value;
        }
    }
    matrix
}

/// What a model lost on samples.
pub(super) struct Losses {
    /// All together.
    pub score: Score,
    /// One by one, nats.
    losses: Vec<f64>,
}

impl Losses {
    /// By how much less was lost than by another on the same samples.
    pub fn gains(&self, other: &Losses) -> Vec<f64> {
        let both = self.losses.iter().zip(&other.losses);
        both.map(|(own, other)| other - own).collect()
    }
}

/// What a model loses on samples.
pub(super) fn losses(
    workshop: &Workshop,
    onnx: &[u8],
    samples: &[RetainedSample],
) -> Result<Losses, OnnxError> {
    let Workshop {
        runtime,
        features,
        classes,
        ..
    } = workshop;
    let mut probabilities = Array2::zeros((samples.len(), *classes));
    if !samples.is_empty() {
        let mut session = runtime.session(onnx, *features, *classes)?;
        let rows = samples_matrix(samples, *features);
        session.predict(rows.view(), probabilities.view_mut())?;
    }
    let mut score = Score::default();
    let mut losses = Vec::with_capacity(samples.len());
    for (row, sample) in probabilities.rows().into_iter().zip(samples) {
        let label = sample.label as usize;
        let one = Score::one(predicted_class(row) == label, row[label]);
        losses.push(one.log_loss().unwrap_or(0.0));
        score.add(&one);
    }
    Ok(Losses { score, losses })
}

/// The mean of paired differences and its standard error.
pub(super) fn paired(gains: &[f64]) -> (f64, f64) {
    let count = gains.len() as f64;
    let mean = gains.iter().sum::<f64>() / count;
    let squares = gains.iter().map(|gain| (gain - mean).powi(2)).sum::<f64>();
    let error = (squares / (count - 1.0).max(1.0) / count).sqrt();
    (mean, error)
}
