//! Losses of models on samples.

use ndarray::Array2;
use perennial_connectors::onnx::OnnxError;
use perennial_operators::flow::predicted_class;
use perennial_operators::{LabelKind, RetainedSample, Score, number_loss};

use super::comparison::{PairedGain, mean_and_error};
use super::context::TrainingContext;

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
    each: Vec<Loss>,
}

/// What a model lost on a sample.
struct Loss {
    /// Nats.
    loss: f64,
    /// 1 for the right class, 0 for another; of a number the squared error.
    figure: f64,
    /// How many samples the sample stands for.
    weight: f64,
}

impl Losses {
    /// By how much less was lost than by another on the same samples.
    pub fn gains(&self, other: &Losses) -> Vec<PairedGain> {
        let both = self.each.iter().zip(&other.each);
        both.map(|(own, other)| PairedGain {
            gain: other.loss - own.loss,
            weight: own.weight,
        })
        .collect()
    }

    /// The mean loss, nats; none without samples.
    pub fn mean(&self) -> Option<f64> {
        self.weighted(|one| one.loss)
    }

    /// The share of right predictions, where the label has classes; 0 of nothing.
    pub fn accuracy(&self) -> Option<f64> {
        match self.kind {
            LabelKind::Classes(_) => Some(self.weighted(|one| one.figure).unwrap_or(0.0)),
            LabelKind::Number => None,
        }
    }

    /// The root of the mean squared error, where the label is a number; none without samples.
    pub fn rmse(&self) -> Option<f64> {
        match self.kind {
            LabelKind::Classes(_) => None,
            LabelKind::Number => self.weighted(|one| one.figure).map(f64::sqrt),
        }
    }

    /// The standard error of the mean loss, nats.
    pub fn error(&self) -> f64 {
        let alone = self.each.iter().map(|one| PairedGain {
            gain: one.loss,
            weight: one.weight,
        });
        mean_and_error(&alone.collect::<Vec<_>>()).1
    }

    fn weighted(&self, of: impl Fn(&Loss) -> f64) -> Option<f64> {
        let all: f64 = self.each.iter().map(|one| one.weight).sum();
        let sum: f64 = self.each.iter().map(|one| one.weight * of(one)).sum();
        (all > 0.0).then(|| sum / all)
    }
}

/// What a model says of samples: a row of class probabilities, or of a number, for each.
pub(crate) fn answers(
    workshop: &TrainingContext,
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
    workshop: &TrainingContext,
    onnx: &[u8],
    samples: &[RetainedSample],
    scale: Option<f32>,
) -> Result<Losses, OnnxError> {
    let answers = answers(workshop, onnx, samples)?;
    let rows = answers.rows().into_iter().zip(samples);
    let each = rows.map(|(row, sample)| {
        let (loss, figure) = match workshop.kind {
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
    Ok(Losses {
        kind: workshop.kind,
        each: each.collect(),
    })
}
