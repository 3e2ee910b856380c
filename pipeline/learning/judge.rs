//! Judging: a candidate against what answers now, on samples that no model was fitted on.

use ndarray::Array2;
use perennial_connectors::onnx::OnnxError;
use perennial_operators::flow::predicted_class;
use perennial_operators::{
    LabelKind, ModelEvaluated, ModelId, RetainedSample, Score, TaskId, number_loss, scale,
};

use super::learner::Workshop;
use super::split::Split;

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

/// Judges a candidate by its mean loss and one standard error of the paired differences. For the base
/// task it must not be higher by more than that than its model before, which has seen less. For any
/// other it must be lower than the ancestor's by more than that: on a few samples a candidate is
/// easily better by luck, and a model that only seems better would be negative transfer. Where it is the
/// best of several `candidates`, luck has had as many chances, each of which the normal distribution's tail bounds by
/// exp(−z²/2): so it must be better by √(1 + 2 ln candidates) standard errors.
///
/// Where the label is a number, losses are measured by its `scale`; the first model of all sets it.
pub fn judge(
    workshop: &Workshop,
    candidate: Rival<'_>,
    incumbent: Option<Rival<'_>>,
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
        accuracy: own.accuracy(),
        log_loss: own.mean(),
        rmse: own.rmse(),
        incumbent_accuracy: known().and_then(Losses::accuracy),
        incumbent_log_loss: known().map(Losses::mean),
        incumbent_rmse: known().and_then(Losses::rmse),
        scale,
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
    kind: LabelKind,
    /// All together.
    score: Score,
    /// One by one, nats.
    losses: Vec<f64>,
}

impl Losses {
    /// By how much less was lost than by another on the same samples.
    pub fn gains(&self, other: &Losses) -> Vec<f64> {
        let both = self.losses.iter().zip(&other.losses);
        both.map(|(own, other)| other - own).collect()
    }

    /// Mean loss, nats; 0 of nothing.
    pub fn mean(&self) -> f64 {
        match self.kind {
            LabelKind::Classes(_) => self.score.log_loss().unwrap_or(0.0),
            LabelKind::Number => self.losses.iter().sum::<f64>() / self.losses.len().max(1) as f64,
        }
    }

    /// The share of right predictions, where the label has classes; 0 of nothing.
    pub fn accuracy(&self) -> Option<f64> {
        match self.kind {
            LabelKind::Classes(_) => Some(self.score.accuracy().unwrap_or(0.0)),
            LabelKind::Number => None,
        }
    }

    /// The root of the mean squared error, where the label is a number.
    pub fn rmse(&self) -> Option<f64> {
        self.score.rmse().filter(|_| self.kind == LabelKind::Number)
    }
}

/// What a model says of samples: a row of class probabilities, or of a number, for each.
fn answers(
    workshop: &Workshop,
    onnx: &[u8],
    samples: &[RetainedSample],
) -> Result<Array2<f32>, OnnxError> {
    let (features, width) = (workshop.features, workshop.kind.width());
    let mut answers = Array2::zeros((samples.len(), width));
    if !samples.is_empty() {
        let mut session = workshop.runtime.session(onnx, features, width)?;
        let rows = samples_matrix(samples, features);
        session.predict(rows.view(), answers.view_mut())?;
    }
    Ok(answers)
}

/// What a model loses on samples; `scale` is that of a number.
pub(super) fn losses(
    workshop: &Workshop,
    onnx: &[u8],
    samples: &[RetainedSample],
    scale: Option<f32>,
) -> Result<Losses, OnnxError> {
    let answers = answers(workshop, onnx, samples)?;
    let mut score = Score::default();
    let mut losses = Vec::with_capacity(samples.len());
    for (row, sample) in answers.rows().into_iter().zip(samples) {
        let one = match workshop.kind {
            LabelKind::Classes(_) => {
                let label = sample.label as usize;
                let one = Score::one(predicted_class(row) == label, row[label]);
                losses.push(one.log_loss().unwrap_or(0.0));
                one
            }
            LabelKind::Number => {
                let error = row[0] - sample.label;
                losses.push(number_loss(error, scale.unwrap_or(1.0)).into());
                Score::of_number(row[0], sample.label)
            }
        };
        score.add(&one);
    }
    Ok(Losses {
        kind: workshop.kind,
        score,
        losses,
    })
}

/// The scale of a number, by the first model.
fn first_scale(workshop: &Workshop, onnx: &[u8], split: &Split) -> Result<f32, OnnxError> {
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

/// The mean of paired differences and its standard error.
pub(super) fn paired(gains: &[f64]) -> (f64, f64) {
    let count = gains.len() as f64;
    let mean = gains.iter().sum::<f64>() / count;
    let squares = gains.iter().map(|gain| (gain - mean).powi(2)).sum::<f64>();
    let error = (squares / (count - 1.0).max(1.0) / count).sqrt();
    (mean, error)
}
