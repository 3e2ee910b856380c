//! Losses of models on samples.

use ndarray::Array2;
use perennial_connectors::onnx::OnnxError;
use perennial_connectors::trainer::{ExamineError, Origin};
use perennial_operators::flow::predicted_class;
use perennial_operators::{LabelKind, RetainedSample, Score, number_loss};

use super::context::TrainingContext;
use super::paired_gain::{PairedGain, mean_and_error};

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

/// Losses of a model on samples, in their order.
pub(super) struct Losses {
    kind: LabelKind,
    each: Vec<Loss>,
}

/// Loss of a model on one sample.
struct Loss {
    /// The loss, nats.
    loss: f64,
    /// For classes 1 if the prediction is right and else 0; for a number the squared error.
    figure: f64,
    /// Number of samples that the sample stands for.
    weight: f64,
}

impl Losses {
    /// Gains over another model on the same samples.
    pub fn gains(&self, other: &Losses) -> Vec<PairedGain> {
        let pairs = self.each.iter().zip(&other.each);
        pairs
            .map(|(own, other)| PairedGain {
                gain: other.loss - own.loss,
                weight: own.weight,
            })
            .collect()
    }

    /// The mean loss, nats; none without samples.
    pub fn mean(&self) -> Option<f64> {
        self.weighted(|one| one.loss)
    }

    /// The share of right predictions, if the label is a class; 0 without samples.
    pub fn accuracy(&self) -> Option<f64> {
        match self.kind {
            LabelKind::Classes(_) => Some(self.weighted(|one| one.figure).unwrap_or(0.0)),
            LabelKind::Number => None,
        }
    }

    /// The root of the mean squared error, if the label is a number; none without samples.
    pub fn rmse(&self) -> Option<f64> {
        match self.kind {
            LabelKind::Classes(_) => None,
            LabelKind::Number => self.weighted(|one| one.figure).map(f64::sqrt),
        }
    }

    /// The standard error of the mean loss, nats.
    pub fn error(&self) -> f64 {
        let losses: Vec<PairedGain> = self
            .each
            .iter()
            .map(|one| PairedGain {
                gain: one.loss,
                weight: one.weight,
            })
            .collect();
        mean_and_error(&losses).1
    }

    /// Weighted mean of a figure; none without samples.
    fn weighted(&self, of: impl Fn(&Loss) -> f64) -> Option<f64> {
        let total: f64 = self.each.iter().map(|one| one.weight).sum();
        let sum: f64 = self.each.iter().map(|one| one.weight * of(one)).sum();
        (total > 0.0).then(|| sum / total)
    }
}

/// Outputs of a model on samples: samples × classes, or samples × 1 for a number.
pub(crate) fn outputs(
    context: &TrainingContext,
    onnx: &[u8],
    samples: &[RetainedSample],
) -> Result<Array2<f32>, OnnxError> {
    let (features, width) = (context.features, context.kind.width());
    let mut outputs = Array2::zeros((samples.len(), width));
    if !samples.is_empty() {
        let mut session = context.runtime.session(onnx, features, width)?;
        let rows = samples_matrix(samples, features);
        session.predict(rows.view(), outputs.view_mut())?;
    }
    Ok(outputs)
}

/// Outputs of a model from elsewhere on samples, as [`outputs`] of one from here.
pub(super) fn foreign_outputs(
    context: &TrainingContext,
    onnx: &[u8],
    origin: Origin,
    samples: &[RetainedSample],
) -> Result<Array2<f32>, ExamineError> {
    let rows = samples_matrix(samples, context.features);
    let examiner = &context.examiner;
    examiner.outputs(onnx, origin, rows.view(), context.kind)
}

/// Losses of a model on samples. If the label is a number, they are in units of `scale`.
pub(super) fn losses(
    context: &TrainingContext,
    onnx: &[u8],
    samples: &[RetainedSample],
    scale: Option<f32>,
) -> Result<Losses, OnnxError> {
    let outputs = outputs(context, onnx, samples)?;
    Ok(losses_of(context, &outputs, samples, scale))
}

/// Losses of outputs on their samples.
pub(super) fn losses_of(
    context: &TrainingContext,
    outputs: &Array2<f32>,
    samples: &[RetainedSample],
    scale: Option<f32>,
) -> Losses {
    let rows = outputs.rows().into_iter().zip(samples);
    let each = rows.map(|(row, sample)| {
        let (loss, figure) = match context.kind {
            LabelKind::Classes(_) => {
                let label = sample.label as usize;
                let is_right = predicted_class(row) == label;
                let loss = Score::one(is_right, row[label]).log_loss();
                (loss.unwrap_or(0.0), f64::from(u8::from(is_right)))
            }
            LabelKind::Number => {
                let error = row[0] - sample.label;
                let loss = number_loss(error, scale.unwrap_or(1.0));
                (loss.into(), f64::from(error).powi(2))
            }
        };
        Loss {
            loss,
            figure,
            weight: sample.weight.into(),
        }
    });
    Losses {
        kind: context.kind,
        each: each.collect(),
    }
}
