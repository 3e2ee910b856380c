//! The measure of predictions for a task's test samples: the cells of a matrix.

use perennial_operators::LabelKind;

use super::plan::Plan;
use super::samples::Samples;
use crate::config::Settings;
use crate::error::Error;

/// Measure of predictions. Higher is better.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Measure {
    /// The share of right predictions, for a label with this many classes.
    Accuracy(usize),
    /// The share of the labels' variance that predictions explain (R²): 1 less the task's mean
    /// squared error divided by this variance, which is that of the test labels of all tasks. It is
    /// the same for all tasks, so that a task whose labels hardly differ has no more weight than
    /// others.
    R2(f64),
}

impl Measure {
    /// The measure for the label of a config.
    pub fn new(settings: &Settings, samples: &Samples, plan: &Plan) -> Result<Measure, Error> {
        if let LabelKind::Classes(classes) = settings.label_kind() {
            return Ok(Measure::Accuracy(classes));
        }
        let tested = || plan.tasks.iter().flat_map(|task| &task.test);
        let labels = || tested().map(|row| f64::from(samples.labels[*row]));
        let count = tested().count() as f64;
        let mean = labels().sum::<f64>() / count;
        let variance = labels().map(|label| (label - mean).powi(2)).sum::<f64>() / count;
        if variance > 0.0 {
            return Ok(Measure::R2(variance));
        }
        let message =
            "all test samples have the same label, so that there is nothing to tell of predictions";
        Err(settings.loaded.error("source", message).into())
    }

    /// Name in tables and plots.
    pub fn name(self) -> &'static str {
        match self {
            Measure::Accuracy(_) => "accuracy",
            Measure::R2(_) => "R²",
        }
    }

    /// Name in files.
    pub fn key(self) -> &'static str {
        match self {
            Measure::Accuracy(_) => "accuracy",
            Measure::R2(_) => "r2",
        }
    }

    /// Value of an untrained predictor: one that guesses each class with the same probability, or
    /// that always predicts the mean of all test labels.
    pub fn untrained(self) -> f64 {
        match self {
            Measure::Accuracy(classes) => 1.0 / classes as f64,
            Measure::R2(_) => 0.0,
        }
    }
}

/// Sum over the predictions for a task's test samples.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    count: usize,
    /// Right predictions, or squared errors.
    sum: f64,
}

impl Tally {
    /// Adds a prediction and the label: class numbers, or numbers.
    pub fn add(&mut self, measure: Measure, prediction: f32, label: f32) {
        self.count += 1;
        self.sum += match measure {
            Measure::Accuracy(_) => f64::from(u8::from(prediction == label)),
            Measure::R2(_) => (f64::from(prediction) - f64::from(label)).powi(2),
        };
    }

    /// The measure of the predictions.
    pub fn value(self, measure: Measure) -> f64 {
        let mean = self.sum / self.count as f64;
        match measure {
            Measure::Accuracy(_) => mean,
            Measure::R2(variance) => 1.0 - mean / variance,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_a_share_of_predictions_or_of_variance() {
        let value = |measure, predictions: &[(f32, f32)]| {
            let mut tally = Tally::default();
            for (prediction, label) in predictions {
                tally.add(measure, *prediction, *label);
            }
            tally.value(measure)
        };
        let classes = Measure::Accuracy(4);
        assert_eq!(value(classes, &[(1.0, 1.0), (2.0, 0.0)]), 0.5);
        let number = Measure::R2(2.0);
        assert_eq!(value(number, &[(1.0, 1.0), (3.0, 1.0)]), 0.0);
        assert_eq!(value(number, &[(1.5, 1.0)]), 0.875);
        assert_eq!((classes.untrained(), number.untrained()), (0.25, 0.0));
    }
}
