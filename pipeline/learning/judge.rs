//! Judging: a candidate against what answers now, on samples that no model was fitted on.

use ndarray::Array2;
use perennial_connectors::onnx::OnnxError;
use perennial_operators::flow::{ModelEvaluated, predicted_class};
use perennial_operators::{LabelKind, ModelId, RetainedSample, Score, TaskId, number_loss, scale};

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
    pub gains: Vec<Gain>,
}

/// By how much less a model lost on a sample than another.
#[derive(Clone, Copy, Debug)]
pub struct Gain {
    /// Nats.
    pub gain: f64,
    /// How many samples the sample stands for.
    pub weight: f64,
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
        effective_samples: gains.as_deref().map_or(0.0, effective),
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
        Some(gains) if effective(gains) < LEAST_SAMPLES as f64 => (
            false,
            format!("only {:.0} samples to judge it on", effective(gains)),
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
    pub fn gains(&self, other: &Losses) -> Vec<Gain> {
        let both = self.each.iter().zip(&other.each);
        both.map(|(own, other)| Gain {
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
        let alone = self.each.iter().map(|one| Gain {
            gain: one.loss,
            weight: one.weight,
        });
        paired(&alone.collect::<Vec<_>>()).1
    }

    fn weighted(&self, of: impl Fn(&Loss) -> f64) -> Option<f64> {
        let all: f64 = self.each.iter().map(|one| one.weight).sum();
        let sum: f64 = self.each.iter().map(|one| one.weight * of(one)).sum();
        (all > 0.0).then(|| sum / all)
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

/// The mean of paired differences and its standard error, that of a weighted mean (Cochran, *Sampling Techniques*, 1977,
/// on ratios; here of all that the samples stand for).
pub(super) fn paired(gains: &[Gain]) -> (f64, f64) {
    let all: f64 = gains.iter().map(|one| one.weight).sum();
    let sum: f64 = gains.iter().map(|one| one.weight * one.gain).sum();
    let mean = sum / all;
    let squares = |of: &dyn Fn(&Gain) -> f64| gains.iter().map(|one| of(one).powi(2)).sum::<f64>();
    let deviations = squares(&|one| one.weight * (one.gain - mean));
    let weights = squares(&|one| one.weight);
    let error = (deviations / (effective(gains) - 1.0).max(1.0) / weights).sqrt();
    (mean, error)
}

/// How many samples that all count the same would tell as much (Kish, *Survey Sampling*, 1965).
pub(super) fn effective(gains: &[Gain]) -> f64 {
    let all: f64 = gains.iter().map(|one| one.weight).sum();
    let squares: f64 = gains.iter().map(|one| one.weight.powi(2)).sum();
    if squares > 0.0 {
        all * all / squares
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gains(of: &[(f64, f64)]) -> Vec<Gain> {
        of.iter()
            .map(|(gain, weight)| Gain {
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
        assert_eq!(paired(&weighted(1.0)), (mean, error));
        let (other_mean, other_error) = paired(&weighted(7.0));
        assert!((other_mean - mean).abs() < 1e-12 && (other_error - error).abs() < 1e-12);
        assert_eq!(effective(&weighted(1.0)), count);
    }

    #[test]
    fn a_sample_that_weighs_much_makes_the_others_count_little() {
        let uneven = gains(&[(0.1, 10.0), (0.3, 1.0), (0.2, 1.0), (0.4, 1.0)]);
        let (mean, error) = paired(&uneven);
        assert!((mean - 1.9 / 13.0).abs() < 1e-12);
        assert!((effective(&uneven) - 169.0 / 103.0).abs() < 1e-12);
        // Fewer than two are as good as one, and the spread is over all that weighs.
        let spread = [(0.1, 10.0), (0.3, 1.0), (0.2, 1.0), (0.4, 1.0)]
            .map(|(gain, weight)| (weight * (gain - mean)).powi(2));
        let expected = (spread.iter().sum::<f64>() / 103.0).sqrt();
        assert!((error - expected).abs() < 1e-12);
        assert_eq!(effective(&[]), 0.0);
    }
}
