//! Adapters: corrections of an inherited model, for a task with too few samples for its own model.
//!
//! If the label has classes, an adapter shifts the logits of the model that its task inherits, so
//! that the model expects each class as often as the task's labels show it. That is the correction
//! for shifted priors of Saerens, Latinne & Decaestecker (2002, "Adjusting the outputs of a
//! classifier to new a priori probabilities", Neural Computation 14(1), §2.1):
//! p′(k|x) ∝ p(k|x) · p′(k) / p(k). Here p′ are the shares of the task's latest labels and p the
//! shares that the model expected on the same samples. Some imagined samples, on which both agree,
//! hold the shift near zero while there are few labels.
//!
//! If the label is a number, an adapter shifts the prediction by the mean error of the model on the
//! task's latest labels; on the imagined samples the error is 0.

use serde::{Deserialize, Serialize};

use crate::data::TaskId;

/// Number of later labels after which a label counts half. This and the other constants here and in
/// [`pool`](super::pool) were chosen on the bootstrap part of the thermal comfort stream, where 50
/// to 1,000 did about as well.
const HALF_LIFE: f64 = 100.0;
/// Number of later labels after which an expert's excess loss counts half.
const EXCESS_HALF_LIFE: f64 = 700.0;
/// Number of imagined samples.
const IMAGINED: f32 = 10.0;
/// The number 1 in fixed-point sums: sums of integers do not depend on the order of the terms.
const FIXED_POINT_ONE: f32 = (1_u64 << 32) as f32;

/// Correction of the model that a task uses, and recent losses of the experts along its path.
///
/// ```
/// use perennial_operators::algorithms::adapter::{Adapter, AdapterSum};
///
/// // Eight labels, all of class 0, of which the model expected four of each class.
/// let one = 1_i64 << 32; // sums are fixed-point numbers
/// let mut adapter = Adapter::default();
/// adapter.learn(&AdapterSum {
///     samples: 8,
///     labels: vec![8 * one, 0],
///     expected: vec![4 * one, 4 * one],
///     ..AdapterSum::default()
/// });
///
/// // From now on, class 0 is expected more often, and class 1 less.
/// let mut biases = Vec::new();
/// adapter.shift(None, &mut biases);
/// assert!(biases[0] > 0.0 && biases[1] < 0.0);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Adapter {
    /// Task whose model the adapter corrects.
    pub source: TaskId,
    /// Decayed count of labels by class; one count if the label is a number.
    labels: Vec<f32>,
    /// Decayed count that the model expected of each class on the same samples. If the label is a
    /// number, the decayed sum of label − output, in scales.
    expected: Vec<f32>,
    /// For a finest task, by [slot](super::pool::Expert::slot): the decayed sum of the expert's
    /// loss beyond the loss of the prediction, nats.
    excess: Vec<f32>,
}

impl Adapter {
    /// Appends the shift of each class's logit to `biases`; with a `scale`, the shift of the
    /// number, in the label's unit. Appends nothing before the first label.
    pub fn shift(&self, scale: Option<f32>, biases: &mut Vec<f32>) {
        if let Some(scale) = scale {
            let sums = self.labels.iter().zip(&self.expected);
            biases.extend(sums.map(|(count, error)| error / (count + IMAGINED) * scale));
            return;
        }
        let total: f32 = self.expected.iter().sum();
        for (labels, expected) in self.labels.iter().zip(&self.expected) {
            let imagined = IMAGINED * expected / total.max(f32::MIN_POSITIVE);
            let (labels, expected) = (labels + imagined, expected + imagined);
            // A class that was never expected has no ratio.
            let ratio = if expected > 0.0 {
                labels / expected
            } else {
                1.0
            };
            biases.push(ratio.max(f32::MIN_POSITIVE).ln());
        }
    }

    /// Recent loss of the expert in a slot beyond the loss of the prediction, nats.
    pub fn excess(&self, slot: u16) -> f32 {
        self.excess.get(slot as usize).copied().unwrap_or(0.0)
    }

    /// Takes in the labels of an epoch.
    pub fn learn(&mut self, sum: &AdapterSum) {
        if self.source != sum.source {
            // Another model was deployed: what the earlier one expected does not apply to it.
            self.labels.clear();
            self.expected.clear();
            self.source = sum.source;
        }
        let decay = decay_after(sum.samples, HALF_LIFE);
        decay_and_add(&mut self.labels, decay, &sum.labels);
        decay_and_add(&mut self.expected, decay, &sum.expected);
        if !sum.excess.is_empty() {
            let decay = decay_after(sum.samples, EXCESS_HALF_LIFE);
            decay_and_add(&mut self.excess, decay, &sum.excess);
        }
    }
}

/// Factor by which a sum decays over `samples` samples.
fn decay_after(samples: i64, half_life: f64) -> f32 {
    (-(samples as f64) / half_life).exp2() as f32
}

/// Decays the sums and adds new fixed-point ones.
fn decay_and_add(to: &mut Vec<f32>, decay: f32, new: &[i64]) {
    to.resize(to.len().max(new.len()), 0.0);
    for value in to.iter_mut() {
        *value *= decay;
    }
    for (to, new) in to.iter_mut().zip(new) {
        *to += *new as f32 / FIXED_POINT_ONE;
    }
}

/// Sums over some labels of a task, which its adapter learns from. They do not depend on the order
/// of the samples.
///
/// All sums are fixed-point numbers: 1 is 2³².
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AdapterSum {
    /// Task whose model the sums are of.
    pub source: TaskId,
    /// Highest sequence number of the samples.
    pub last: u64,
    /// Number of samples.
    pub samples: i64,
    /// Number of labels by class; one number of all labels if the label is a number.
    pub labels: Vec<i64>,
    /// Sum of the model's probabilities by class; if the label is a number, sum of label − output,
    /// in scales.
    pub expected: Vec<i64>,
    /// By [slot](super::pool::Expert::slot), sum of the expert's loss beyond the loss of the
    /// prediction, nats; empty unless the task is the finest of the samples.
    pub excess: Vec<i64>,
}

impl AdapterSum {
    /// Adds another sum.
    pub fn add(&mut self, other: &AdapterSum) {
        let sums: [&[i64]; 3] = [&other.labels, &other.expected, &other.excess];
        self.count(other.last, other.samples, sums);
    }

    /// Adds `samples` samples, of which `last` is the highest sequence number, and their sums:
    /// labels, expected, excess.
    pub(crate) fn count(&mut self, last: u64, samples: i64, sums: [&[i64]; 3]) {
        self.last = self.last.max(last);
        self.samples += samples;
        let own = [&mut self.labels, &mut self.expected, &mut self.excess];
        for (to, from) in own.into_iter().zip(sums) {
            to.resize(to.len().max(from.len()), 0);
            for (to, from) in to.iter_mut().zip(from) {
                *to += from;
            }
        }
    }
}

/// Converts a number to fixed point, where 1 is [`FIXED_POINT_ONE`].
pub(crate) fn to_fixed_point(value: f32) -> i64 {
    (value * FIXED_POINT_ONE) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(source: u64, labels: &[f32], expected: &[f32]) -> AdapterSum {
        let all = |values: &[f32]| values.iter().map(|value| to_fixed_point(*value)).collect();
        AdapterSum {
            source: TaskId(source),
            samples: labels.iter().sum::<f32>() as i64,
            labels: all(labels),
            expected: all(expected),
            ..AdapterSum::default()
        }
    }

    fn shift(adapter: &Adapter) -> Vec<f32> {
        let mut biases = Vec::new();
        adapter.shift(None, &mut biases);
        biases
    }

    #[test]
    fn labels_as_expected_shift_nothing() {
        let mut adapter = Adapter::default();
        assert!(shift(&adapter).is_empty());
        adapter.learn(&sum(0, &[6.0, 2.0], &[6.0, 2.0]));
        assert_eq!(shift(&adapter), [0.0, 0.0]);
    }

    #[test]
    fn a_class_that_comes_more_often_is_expected_more() {
        let mut adapter = Adapter::default();
        adapter.learn(&sum(0, &[8.0, 0.0], &[4.0, 4.0]));
        // (8 + 5) / (4 + 5) and (0 + 5) / (4 + 5).
        let shifts = shift(&adapter);
        assert!(
            (shifts[0] - (13.0_f32 / 9.0).ln()).abs() < 1e-6,
            "{shifts:?}"
        );
        assert!(
            (shifts[1] - (5.0_f32 / 9.0).ln()).abs() < 1e-6,
            "{shifts:?}"
        );
        // Many later labels as expected undo the shift.
        for _ in 0..20 {
            adapter.learn(&sum(0, &[50.0, 50.0], &[50.0, 50.0]));
        }
        assert!(shift(&adapter).iter().all(|shift| shift.abs() < 1e-3));
    }

    #[test]
    fn a_number_is_shifted_by_its_mean_error() {
        let shift = |adapter: &Adapter| {
            let mut biases = Vec::new();
            adapter.shift(Some(4.0), &mut biases);
            biases
        };
        let mut adapter = Adapter::default();
        assert!(shift(&adapter).is_empty());
        // Thirty labels were one scale above the output, ten equal to it.
        adapter.learn(&sum(0, &[40.0], &[30.0]));
        assert_eq!(shift(&adapter), [30.0 / 50.0 * 4.0]);
        for _ in 0..20 {
            adapter.learn(&sum(0, &[100.0], &[0.0]));
        }
        assert!(shift(&adapter)[0].abs() < 1e-3);
    }

    #[test]
    fn a_new_model_starts_without_correction() {
        let mut adapter = Adapter::default();
        adapter.learn(&sum(0, &[8.0, 0.0], &[4.0, 4.0]));
        adapter.learn(&sum(7, &[0.0, 1.0], &[0.0, 1.0]));
        assert_eq!(shift(&adapter), [0.0, 0.0]);
    }
}
