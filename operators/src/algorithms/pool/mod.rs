//! Inference integration: the outputs of models and adapters along a sample's path become one
//! prediction.
//!
//! Each model on the path is an expert, and so are each task's [adapter](super::adapter::Adapter)
//! on the model that it uses and, at the two finest tasks, the sample's
//! [neighbours](super::neighbours). Their logits are averaged, which is a geometric mean of
//! probabilities (a logarithmic opinion pool: Genest & Zidek 1986, "Combining probability
//! distributions", §3), with exponential weights (Cesa-Bianchi & Lugosi 2006, "Prediction,
//! Learning, and Games", §2.2) by each expert's recent losses on the very task where the path ends.
//! Since an adapter only adds to logits, models and adapters reduce to one weight a model and one
//! bias a class.
//!
//! If the label is a number, the outputs themselves are averaged, by the same weights, and the bias
//! is added.

mod weights;

use std::sync::Arc;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use super::adapter::Adapter;
use super::neighbours::Neighbours;
use crate::data::{ModelId, TaskId, number_loss};

/// Rule by which the experts along a path are weighted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Integration {
    /// The finest expert alone.
    Leaf,
    /// All experts the same.
    Average,
    /// By each expert's recent losses.
    Weighted,
}

/// Lower probabilities count as this one, so that a sure model can still be outvoted.
const LEAST_PROBABILITY: f32 = 1e-9;

/// A deployed model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DeployedModelRef {
    /// The model.
    pub model: ModelId,
    /// Evidence for the model: nats by which its loss was below the incumbent's, summed over the
    /// samples that both were judged on.
    pub evidence: f32,
    /// Scale of the label, if it is a number, in its unit: that of the
    /// [evaluation](crate::flow::ModelEvaluated::scale).
    pub scale: Option<f32>,
}

/// The deployed models, at most one a task.
pub type Deployed = FxHashMap<TaskId, DeployedModelRef>;
/// The adapters of tasks.
pub type Adapters = FxHashMap<TaskId, Arc<Adapter>>;

/// An expert whose output is integrated: a model, an adapter or neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expert {
    /// [`KINDS`] × depth of its task on the path, plus 0 for a model, 1 for an adapter, 2 for
    /// neighbours.
    pub slot: u16,
    /// Index of the output that it uses or, as an adapter, corrects: that of the model in
    /// [`Pool::models`], or the number of models plus that of the task in [`Pool::neighbours`].
    pub output: u16,
}

/// Most experts of a task: its model, its adapter, and neighbours among its samples.
pub const KINDS: usize = 3;

/// Weights of a path's experts, by which their outputs become one prediction.
///
/// ```
/// use perennial_operators::algorithms::pool::{Deployed, DeployedModelRef, Integration, Pool};
/// use perennial_operators::{LabelKind, ModelId, TaskDefinition, TaskPath};
///
/// // A path of two tasks, each with a model.
/// let base = TaskDefinition::base();
/// let athens = base.child(&[("city".into(), "athens".into())]);
/// let path = TaskPath { nodes: vec![base, athens] };
/// let deployed = path.nodes.iter().map(|node| {
///     let model = ModelId { task: node.task, version: 1 };
///     (node.task, DeployedModelRef { model, evidence: 0.0, scale: None })
/// });
/// let deployed: Deployed = deployed.collect();
/// let kind = LabelKind::Classes(2);
/// let pool = Pool::new(&path, &deployed, None, Integration::Average, kind).unwrap();
///
/// // The models contradict each other, so their average is undecided.
/// let outputs = [0.9, 0.1, 0.1, 0.9]; // models × classes
/// let mut probabilities = [0.0; 2];
/// pool.integrate(&outputs, &mut probabilities);
/// assert!((probabilities[0] - 0.5).abs() < 1e-6);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pool {
    /// Models to evaluate, from coarse to fine.
    pub models: Vec<ModelId>,
    /// Scale of the label, in its unit, if it is a number; none if it has classes.
    pub scale: Option<f32>,
    /// Weight of each model's logits, or number. They sum to 1.
    weights: Vec<f32>,
    /// Bias of each class's logit, or of the number; empty if it is zero.
    bias: Vec<f32>,
    /// Tasks among whose samples neighbours are sought, once the models are integrated, coarse to
    /// fine.
    pub neighbours: Vec<TaskId>,
    /// Weight of each such task's neighbours. The rest up to 1 is for models and adapters together.
    shares: Vec<f32>,
    /// Experts with a weight that counts: models and adapters from coarse to fine, then neighbours.
    experts: Vec<Expert>,
    /// Bias of each expert on the logits of its output, experts × classes; or on the number, one an
    /// expert.
    biases: Vec<f32>,
}

/// Adapters and neighbours of tasks, which correct the outputs of models.
#[derive(Clone, Copy)]
pub struct Corrections<'a> {
    /// Adapters of the tasks.
    pub adapters: &'a Adapters,
    /// Latest labelled samples of the tasks.
    pub neighbours: &'a Neighbours,
}

impl Pool {
    /// Builds the pool of a single model, for a label with classes.
    pub fn of(model: ModelId, classes: usize) -> Pool {
        Pool {
            models: vec![model],
            scale: None,
            weights: vec![1.0],
            bias: Vec::new(),
            neighbours: Vec::new(),
            shares: Vec::new(),
            experts: vec![Expert { slot: 0, output: 0 }],
            biases: vec![0.0; classes],
        }
    }

    /// Drops experts below the first `nodes` tasks of the path. Weights, and so the prediction, are
    /// left as they are.
    pub(crate) fn cut(&mut self, nodes: usize) {
        let width = self.biases.len() / self.experts.len().max(1);
        let left = self
            .experts
            .partition_point(|expert| expert.slot < slot(nodes));
        let is_left = |expert: &Expert| expert.slot < slot(nodes);
        debug_assert!(self.experts[left..].iter().all(|expert| !is_left(expert)));
        self.experts.truncate(left);
        self.biases.truncate(left * width);
    }

    /// Model with the greatest weight, the finest of equals.
    pub fn main(&self) -> ModelId {
        let mut main = 0;
        for (model, weight) in self.weights.iter().enumerate() {
            if *weight >= self.weights[main] {
                main = model;
            }
        }
        self.models[main]
    }

    /// Number of outputs of one sample: one a model, then one a task with neighbours.
    pub fn outputs(&self) -> usize {
        self.models.len() + self.neighbours.len()
    }

    /// Predicts one sample from the models' outputs, models × classes, without its neighbours.
    ///
    /// `probabilities` is set to one probability a class, or to the number.
    pub fn integrate(&self, outputs: &[f32], probabilities: &mut [f32]) {
        let classes = probabilities.len();
        if self.models.len() == 1 && self.bias.is_empty() {
            probabilities.copy_from_slice(&outputs[..classes]);
            // Below, classes without a probability get the least one.
            if self.scale.is_some() || probabilities.iter().all(|value| value.is_finite()) {
                return;
            }
        }
        if self.bias.is_empty() {
            probabilities.fill(0.0);
        } else {
            probabilities.copy_from_slice(&self.bias);
        }
        if self.scale.is_some() {
            let weighted = self.weights.iter().zip(outputs);
            probabilities[0] += weighted
                .map(|(weight, output)| weight * output)
                .sum::<f32>();
            return;
        }
        for (weight, output) in self.weights.iter().zip(outputs.chunks_exact(classes)) {
            for (logit, probability) in probabilities.iter_mut().zip(output) {
                *logit += weight * log(*probability);
            }
        }
        softmax(probabilities);
    }

    /// Mixes the neighbours' outputs, neighbours × classes, into the prediction without them.
    ///
    /// `probabilities` holds that prediction, and then the final one: one probability a class, or
    /// the number.
    pub fn mix_neighbours(&self, outputs: &[f32], probabilities: &mut [f32]) {
        if self.scale.is_some() {
            let without = probabilities[0];
            for (share, output) in self.shares.iter().zip(outputs) {
                probabilities[0] += share * (output - without);
            }
            return;
        }
        let rest = 1.0 - self.shares.iter().sum::<f32>();
        for probability in probabilities.iter_mut() {
            *probability = rest * log(*probability);
        }
        let classes = probabilities.len();
        for (share, output) in self.shares.iter().zip(outputs.chunks_exact(classes)) {
            for (logit, probability) in probabilities.iter_mut().zip(output) {
                *logit += share * log(*probability);
            }
        }
        softmax(probabilities);
    }

    /// Mean distance of the outputs, outputs × classes, from the prediction that they make: the
    /// Kullback-Leibler divergence, nats, or the error of a number, in scales.
    ///
    /// For classes, where logits are averaged, that is the energy of the averaged logits, −ln Σ exp
    /// (Liu et al. 2020, "Energy-based out-of-distribution detection", §3.1).
    pub(crate) fn disagreement(&self, outputs: &[f32], prediction: &[f32]) -> f32 {
        let rest = 1.0 - self.shares.iter().sum::<f32>();
        let models = self.weights.iter().map(|weight| rest * weight);
        let weights = models.chain(self.shares.iter().copied());
        let distance = |output: &[f32]| match self.scale {
            Some(scale) => (output[0] - prediction[0]).abs() / scale,
            None => {
                let classes = prediction.iter().zip(output).filter(|(p, _)| **p > 0.0);
                classes.map(|(p, q)| p * (log(*p) - log(*q))).sum()
            }
        };
        weights
            .zip(outputs.chunks_exact(prediction.len()))
            .map(|(weight, output)| weight * distance(output))
            .sum()
    }

    /// Loss of a prediction, nats: of one probability a class, or of the number.
    pub(crate) fn loss(&self, prediction: &[f32], label: f32) -> f32 {
        match self.scale {
            None => -log(prediction[label as usize]),
            Some(scale) => number_loss(prediction[0] - label, scale),
        }
    }

    /// Calls `each` with every expert and its loss, nats, given the outputs, outputs × classes, and
    /// the label of a sample. `logits` is scratch.
    pub(crate) fn losses(
        &self,
        outputs: &[f32],
        label: f32,
        logits: &mut Vec<f32>,
        mut each: impl FnMut(Expert, f32),
    ) {
        let width = self.biases.len() / self.experts.len();
        for (expert, biases) in self.experts.iter().zip(self.biases.chunks_exact(width)) {
            let start = expert.output as usize * width;
            let output = &outputs[start..start + width];
            if self.scale.is_some() {
                each(*expert, self.loss(&[output[0] + biases[0]], label));
                continue;
            }
            logits.clear();
            let corrected = output.iter().zip(biases);
            logits.extend(corrected.map(|(probability, bias)| log(*probability) + bias));
            let highest = logits.iter().copied().fold(f32::MIN, f32::max);
            let total: f32 = logits.iter().map(|logit| (logit - highest).exp()).sum();
            each(*expert, highest + total.ln() - logits[label as usize]);
        }
    }

    /// Index of the model that the adapter of the task at this depth corrects; none if it is no
    /// expert.
    pub(crate) fn corrected_model(&self, depth: usize) -> Option<usize> {
        let slot = slot(depth) + 1;
        let expert = self.experts.iter().find(|expert| expert.slot == slot)?;
        Some(expert.output as usize)
    }
}

/// First slot of the task at a depth of the path.
fn slot(depth: usize) -> u16 {
    (KINDS * depth) as u16
}

/// Logarithm of a probability, bounded on both sides; NaN counts as 0.
pub(crate) fn log(probability: f32) -> f32 {
    probability.max(LEAST_PROBABILITY).min(f32::MAX).ln()
}

/// Converts logits into probabilities.
fn softmax(logits: &mut [f32]) {
    let highest = logits.iter().copied().fold(f32::MIN, f32::max);
    let mut total = 0.0;
    for logit in logits.iter_mut() {
        *logit = (*logit - highest).exp();
        total += *logit;
    }
    for logit in logits.iter_mut() {
        *logit /= total;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_without_a_probability_are_the_least_likely() {
        let model = ModelId {
            task: TaskId::BASE,
            version: 1,
        };
        let pool = Pool::of(model, 3);
        let mut predicted = [0.0; 3];
        pool.integrate(&[f32::NAN, 0.2, 0.6], &mut predicted);
        assert!(predicted[0] < 1e-6 && (predicted[2] / predicted[1] - 3.0).abs() < 1e-3);
        pool.integrate(&[f32::NAN; 3], &mut predicted);
        assert!(
            predicted
                .iter()
                .all(|share| (share - 1.0 / 3.0).abs() < 1e-6)
        );
        pool.integrate(&[f32::INFINITY, 0.5, 0.5], &mut predicted);
        assert!(predicted[0] > 0.99, "{predicted:?}");
        // What is a number throughout stays as it is.
        pool.integrate(&[0.1, 0.2, 0.6], &mut predicted);
        assert_eq!(predicted, [0.1, 0.2, 0.6]);
    }
}
