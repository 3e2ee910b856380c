//! Judging: a candidate against what answers now, on samples that no model was fitted on.

use ndarray::{Array2, ArrayView2};
use perennial_connectors::onnx::{OnnxError, Runtime};
use perennial_operators::flow::predicted_class;
use perennial_operators::{ModelEvaluated, ModelId, RetainedSample, Score, TaskId};

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
}

/// Held-back samples that a candidate must be judged on before it replaces anything.
const LEAST_SAMPLES: usize = 10;

/// Judges a candidate by its log loss and one standard error of the paired differences. For the base
/// task it must not be higher by more than that than its model before, which has seen less. For any
/// other it must be lower than the ancestor's by more than that: on a few samples a candidate is
/// easily better by luck, and a model that only seems better would be negative transfer.
pub fn judge(
    runtime: &Runtime,
    classes: usize,
    candidate: Rival<'_>,
    incumbent: Option<Rival<'_>>,
    held_back: &[RetainedSample],
) -> Result<Judgement, OnnxError> {
    let width = held_back.first().map_or(0, |sample| sample.features.len());
    let features = samples_matrix(held_back, width);
    let own = losses(runtime, classes, candidate.onnx, features.view(), held_back)?;
    let other = match &incumbent {
        Some(rival) => Some(losses(
            runtime,
            classes,
            rival.onnx,
            features.view(),
            held_back,
        )?),
        None => None,
    };
    let evaluated = ModelEvaluated {
        model: candidate.model,
        incumbent: incumbent.as_ref().map(|rival| rival.model),
        samples: held_back.len() as u64,
        accuracy: own.score.accuracy().unwrap_or(0.0),
        log_loss: own.score.log_loss().unwrap_or(0.0),
        incumbent_accuracy: other.as_ref().and_then(|other| other.score.accuracy()),
        incumbent_log_loss: other.as_ref().and_then(|other| other.score.log_loss()),
    };
    let (deploys, why) = match other {
        None => (true, "nothing answered before".to_string()),
        Some(_) if held_back.len() < LEAST_SAMPLES => (
            false,
            format!("only {} samples to judge it on", held_back.len()),
        ),
        Some(other) => {
            let (gain, error) = paired(&own.losses, &other.losses);
            let margin = if candidate.model.task == TaskId::BASE {
                -error
            } else {
                error
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

struct Losses {
    score: Score,
    losses: Vec<f64>,
}

fn losses(
    runtime: &Runtime,
    classes: usize,
    onnx: &[u8],
    features: ArrayView2<'_, f32>,
    samples: &[RetainedSample],
) -> Result<Losses, OnnxError> {
    let mut probabilities = Array2::zeros((samples.len(), classes));
    if !samples.is_empty() {
        let mut session = runtime.session(onnx, features.ncols(), classes)?;
        session.predict(features, probabilities.view_mut())?;
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

/// Mean of `other − own` and its standard error.
fn paired(own: &[f64], other: &[f64]) -> (f64, f64) {
    let count = own.len() as f64;
    let gains = || own.iter().zip(other).map(|(own, other)| other - own);
    let mean = gains().sum::<f64>() / count;
    let squares = gains().map(|gain| (gain - mean).powi(2)).sum::<f64>();
    let error = (squares / (count - 1.0).max(1.0) / count).sqrt();
    (mean, error)
}
