//! What the answers to a task's test samples are worth: the cells of a matrix.

use perennial_operators::LabelKind;

use super::plan::Plan;
use super::samples::Samples;
use crate::config::Settings;
use crate::error::Error;

/// How answers are measured. Higher is better.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Measure {
    /// By the share that is right, of a label with so many classes.
    Accuracy(usize),
    /// By the share of the labels' variance that is explained (R²): 1 less the mean squared error of a task by this
    /// variance, that of the test labels of all tasks. One for all, so that a task whose labels hardly differ counts no
    /// more than others.
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

    /// Its name for people.
    pub fn name(self) -> &'static str {
        match self {
            Measure::Accuracy(_) => "accuracy",
            Measure::R2(_) => "R²",
        }
    }

    /// Its name for files.
    pub fn key(self) -> &'static str {
        match self {
            Measure::Accuracy(_) => "accuracy",
            Measure::R2(_) => "r2",
        }
    }

    /// What an untrained predictor is worth: one that guesses, each class as likely as the others, or that always says
    /// the mean of all test labels.
    pub fn untrained(self) -> f64 {
        match self {
            Measure::Accuracy(classes) => 1.0 / classes as f64,
            Measure::R2(_) => 0.0,
        }
    }
}

/// Answers to a task's test samples, added up.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    count: usize,
    /// Right answers, or squared errors.
    sum: f64,
}

impl Tally {
    /// Adds an answer and the label: class numbers or numbers.
    pub fn add(&mut self, measure: Measure, answer: f32, label: f32) {
        self.count += 1;
        self.sum += match measure {
            Measure::Accuracy(_) => f64::from(u8::from(answer == label)),
            Measure::R2(_) => (f64::from(answer) - f64::from(label)).powi(2),
        };
    }

    /// What they are worth.
    pub fn worth(self, measure: Measure) -> f64 {
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
    fn a_worth_is_a_share_of_answers_or_of_variance() {
        let worth = |measure, answers: &[(f32, f32)]| {
            let mut tally = Tally::default();
            for (answer, label) in answers {
                tally.add(measure, *answer, *label);
            }
            tally.worth(measure)
        };
        let classes = Measure::Accuracy(4);
        assert_eq!(worth(classes, &[(1.0, 1.0), (2.0, 0.0)]), 0.5);
        let number = Measure::R2(2.0);
        assert_eq!(worth(number, &[(1.0, 1.0), (3.0, 1.0)]), 0.0);
        assert_eq!(worth(number, &[(1.5, 1.0)]), 0.875);
        assert_eq!((classes.untrained(), number.untrained()), (0.25, 0.0));
    }
}
