//! Adapters: what a task with few samples owns instead of a model of its own.
//!
//! Where the label has classes, an adapter shifts the logits of the model that answers for its task, so that the model expects each class as often
//! as the task's labels say. That is the correction for shifted priors of Saerens, Latinne & Decaestecker (2002,
//! "Adjusting the outputs of a classifier to new a priori probabilities", Neural Computation 14(1), §2.1):
//! p′(k|x) ∝ p(k|x) · p′(k) / p(k). Here p′ are the task's latest labels and p what the model expected of the very same
//! samples; some imagined samples, on which both agree, hold the shift near zero while there are few.
//!
//! Where the label is a number, an adapter shifts the answer by the mean of how far the task's latest labels were above
//! what the model said; the imagined samples are those that it was right of.

use serde::{Deserialize, Serialize};

use crate::data::TaskId;

/// Labels after which a label counts half as much. Chosen, as all figures here and in
/// [`integrate`](super::pool), on the bootstrap part of the thermal comfort stream, where 50 to 1,000 did about as
/// well.
const HALF_LIFE: f64 = 100.0;
/// The same for what the experts along a path lost, by which they are weighted.
const EXCESS_HALF_LIFE: f64 = 700.0;
/// Imagined samples.
const IMAGINED: f32 = 10.0;
/// Steps of a sum: integers do not depend on the order in which they are added.
const FIXED_POINT_ONE: f32 = (1_u64 << 32) as f32;

/// What a task has learned of the model that answers for it, and of the experts along its path.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Adapter {
    /// The task whose model it corrects.
    pub source: TaskId,
    /// For each class its labels, the older the less they count; one count of all where the label is a number.
    labels: Vec<f32>,
    /// For each class what the model expected of the same samples; where the label is a number, by how many scales in
    /// sum they were above what it said.
    expected: Vec<f32>,
    /// Where samples end here: for each [slot](super::pool::Expert::slot) how many nats the expert has lately lost
    /// more than the answer that was given.
    excess: Vec<f32>,
}

impl Adapter {
    /// The shift of each class's logit, or of the number where the label is one with a `scale`, appended to `biases`.
    pub fn shift(&self, scale: Option<f32>, biases: &mut Vec<f32>) {
        if let Some(scale) = scale {
            let sums = self.labels.iter().zip(&self.expected);
            biases.extend(sums.map(|(count, above)| above / (count + IMAGINED) * scale));
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

    /// How many nats an expert has lately lost more than the answer that was given.
    pub fn excess(&self, slot: u16) -> f32 {
        self.excess.get(slot as usize).copied().unwrap_or(0.0)
    }

    /// Learns what an epoch's labels say.
    pub fn learn(&mut self, sum: &AdapterSum) {
        if self.source != sum.source {
            // Another model answers: what the one before expected says nothing of it.
            self.labels.clear();
            self.expected.clear();
            self.source = sum.source;
        }
        let left = remaining(sum.samples, HALF_LIFE);
        add(&mut self.labels, left, &sum.labels);
        add(&mut self.expected, left, &sum.expected);
        if !sum.excess.is_empty() {
            let left = remaining(sum.samples, EXCESS_HALF_LIFE);
            add(&mut self.excess, left, &sum.excess);
        }
    }
}

/// What is left of an older sum after so many samples.
fn remaining(samples: i64, half_life: f64) -> f32 {
    (-(samples as f64) / half_life).exp2() as f32
}

/// Lets what is there fade and adds what is new.
fn add(to: &mut Vec<f32>, left: f32, new: &[i64]) {
    to.resize(to.len().max(new.len()), 0.0);
    for value in to.iter_mut() {
        *value *= left;
    }
    for (to, new) in to.iter_mut().zip(new) {
        *to += *new as f32 / FIXED_POINT_ONE;
    }
}

/// What some labels say to a task's adapter: sums that do not depend on the order of the samples.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AdapterSum {
    /// The task whose model answered.
    pub source: TaskId,
    /// The highest sequence number among the samples.
    pub last: u64,
    /// How many samples there are.
    pub samples: i64,
    /// Labels by class, or their count, in to_fixed_point.
    pub labels: Vec<i64>,
    /// What the model expected, or how far labels were above it, in to_fixed_point.
    pub expected: Vec<i64>,
    /// By slot, what experts lost more than the answer that was given, in to_fixed_point of a nat; empty where samples do not end.
    pub excess: Vec<i64>,
}

impl AdapterSum {
    /// Adds another sum.
    pub fn add(&mut self, other: &AdapterSum) {
        let sums: [&[i64]; 3] = [&other.labels, &other.expected, &other.excess];
        self.count(other.last, other.samples, sums);
    }

    /// Adds samples: the last of them, how many there are, and labels, expectations and excess.
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

/// A number as a whole number of to_fixed_point.
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
    fn what_comes_as_expected_shifts_nothing() {
        let mut adapter = Adapter::default();
        assert!(shift(&adapter).is_empty());
        adapter.learn(&sum(0, &[6.0, 2.0], &[6.0, 2.0]));
        assert_eq!(shift(&adapter), [0.0, 0.0]);
    }

    #[test]
    fn what_comes_more_often_is_expected_more() {
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
        // Many later labels that come as expected undo it.
        for _ in 0..20 {
            adapter.learn(&sum(0, &[50.0, 50.0], &[50.0, 50.0]));
        }
        assert!(shift(&adapter).iter().all(|shift| shift.abs() < 1e-3));
    }

    #[test]
    fn a_number_is_shifted_by_the_mean_of_what_it_was_off() {
        let shift = |adapter: &Adapter| {
            let mut biases = Vec::new();
            adapter.shift(Some(4.0), &mut biases);
            biases
        };
        let mut adapter = Adapter::default();
        assert!(shift(&adapter).is_empty());
        // Thirty labels were one scale above what was said, ten as it was said.
        adapter.learn(&sum(0, &[40.0], &[30.0]));
        assert_eq!(shift(&adapter), [30.0 / 50.0 * 4.0]);
        for _ in 0..20 {
            adapter.learn(&sum(0, &[100.0], &[0.0]));
        }
        assert!(shift(&adapter)[0].abs() < 1e-3);
    }

    #[test]
    fn another_model_begins_anew() {
        let mut adapter = Adapter::default();
        adapter.learn(&sum(0, &[8.0, 0.0], &[4.0, 4.0]));
        adapter.learn(&sum(7, &[0.0, 1.0], &[0.0, 1.0]));
        assert_eq!(shift(&adapter), [0.0, 0.0]);
    }
}
