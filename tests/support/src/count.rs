//! Recounts the statistics of a task from samples and their predictions.

use serde_json::{Value, json};

use crate::stream::CLASSES;

/// Statistics of one task, or of all.
#[derive(Default)]
pub struct Count {
    /// Number of labelled samples, with those of the bootstrap.
    pub labelled: u64,
    /// Number of scored predictions.
    pub scored: u64,
    correct: u64,
    loss: f64,
    /// Number of samples by label, then by prediction.
    pub confusion: [[u64; 3]; 3],
    /// The values of the labelled samples, for each feature.
    values: [Vec<f64>; 4],
}

impl Count {
    /// Counts a labelled sample and, unless it is of the bootstrap, its prediction.
    pub fn add(&mut self, features: [Option<f64>; 4], label: usize, prediction: Option<&Value>) {
        self.labelled += 1;
        for (values, value) in self.values.iter_mut().zip(features) {
            values.extend(value);
        }
        let Some(prediction) = prediction else { return };
        let predicted = class(&prediction["prediction"]).expect("a class");
        let probability = prediction["probabilities"][CLASSES[label]].as_f64();
        // The text is the shortest of a 32-bit number.
        let probability = f64::from(probability.expect("a probability") as f32);
        self.scored += 1;
        self.correct += u64::from(predicted == label);
        self.loss -= probability.max(1e-15).ln();
        self.confusion[label][predicted] += 1;
    }

    /// Asserts that a part of a report has the same accuracy and loss.
    #[track_caller]
    pub fn assert_quality(&self, said: &Value, what: &str) {
        if self.scored > 0 {
            let scored = self.scored as f64;
            assert_eq!(said["accuracy"], self.correct as f64 / scored, "{what}");
            assert_near(&said["log_loss"], self.loss / scored, 1e-9, what);
        }
    }

    /// Asserts that `kb show` prints the same. Moments may differ by `tolerance` times the spread
    /// of the values.
    #[track_caller]
    pub fn assert_shown(&self, said: &Value, tolerance: f64, what: &str) {
        assert_eq!(said["labelled"], self.labelled, "{what}");
        assert_eq!(said["scored"], self.scored, "{what}");
        self.assert_quality(said, what);
        if self.scored > 0 {
            let confusion: Vec<u64> = self.confusion.iter().flatten().copied().collect();
            assert_eq!(said["confusion"], json!(confusion), "{what}");
        }
        let features = said["features"].as_array().expect("features");
        assert_eq!(features.len(), self.values.len(), "{what}");
        for (number, (said, values)) in features.iter().zip(&self.values).enumerate() {
            let what = format!("{what}, feature {number}");
            let count = values.len() as f64;
            let mean = values.iter().sum::<f64>() / count;
            let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / count;
            assert_eq!(said["count"].as_f64(), Some(count), "{what}");
            // A mean may be next to 0: it is compared on the scale of the values.
            let scale = variance.sqrt();
            assert_near(&said["mean"], mean, tolerance * scale, &what);
            assert_near(&said["variance"], variance, tolerance * variance, &what);
        }
    }
}

/// Asserts that a number is within `apart` of the expected one.
#[track_caller]
fn assert_near(said: &Value, expected: f64, apart: f64, what: &str) {
    let said = said.as_f64().expect("a number");
    let near = (said - expected).abs() <= apart;
    assert!(near, "{what}: {said} and not {expected}");
}

/// The index of a class.
pub fn class(name: &Value) -> Option<usize> {
    CLASSES.iter().position(|class| name == class)
}
