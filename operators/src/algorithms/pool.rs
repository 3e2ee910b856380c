//! Inference integration: how the models and adapters along a sample's path become one answer.
//!
//! Each model on the path is an expert, and so are each task's [adapter](super::adapter::Adapter) on the model that answers for it
//! and, at the two finest tasks, a sample's [neighbours](super::neighbours). Their logits are averaged, which is a geometric mean of probabilities (a logarithmic opinion pool: Genest & Zidek 1986,
//! "Combining probability distributions", §3), with exponential weights (Cesa-Bianchi & Lugosi 2006, "Prediction, Learning,
//! and Games", §2.2) by what each expert has lately lost on the very task where the path ends. Since an adapter only adds
//! to logits, models and adapters come down to one weight a model and one bias a class.
//!
//! Where the label is a number, the answers themselves are averaged, by the same weights, and the bias is added.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use super::adapter::Adapter;
use super::neighbours::Neighbours;
use crate::data::{LabelKind, ModelId, TaskId, TaskPath, number_loss};

/// How the experts along a path are weighted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Integration {
    /// The finest one answers alone.
    Leaf,
    /// All count the same.
    Average,
    /// By what each has lately lost.
    Weighted,
}

/// How much a nat that an expert lost takes from its weight; see `adapter.rs` for how it was chosen.
const RATE: f32 = 0.1;
/// A model whose experts have less weight than this together is not asked.
const LEAST_WEIGHT: f32 = 0.001;
/// A lower probability counts as this, so that a sure model can still be outvoted.
const LEAST_PROBABILITY: f32 = 1e-9;

/// The most that what is known beforehand counts, in nats: what is seen live must be able to outweigh it.
const MOST_EVIDENCE: f32 = 50.0;

/// A model that answers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DeployedModelRef {
    /// Which model.
    pub model: ModelId,
    /// By how many nats it was better than what answers without it on the samples that it was judged on.
    pub evidence: f32,
    /// See [`ModelEvaluated::scale`](crate::flow::ModelEvaluated::scale).
    pub scale: Option<f32>,
}

/// The models that answer now, at most one a task.
pub type Deployed = FxHashMap<TaskId, DeployedModelRef>;
/// What tasks have learned from their labels.
pub type Adapters = FxHashMap<TaskId, Arc<Adapter>>;

/// One of those whose answers are integrated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expert {
    /// [`KINDS`] times the depth of its task on the path, plus one for an adapter, two for neighbours.
    pub slot: u16,
    /// Which of [`Pool::models`] says what it says, or what it corrects; for neighbours, which of
    /// [`Pool::neighbours`], behind the models.
    pub answer: u16,
}

/// How many experts a task can have: its model, its adapter, its samples' neighbours.
pub const KINDS: usize = 3;
/// The finest tasks of a path among whose samples there are neighbours.
const NEIGHBOURHOODS: usize = 2;

/// How the answers of a path's models become one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pool {
    /// The models that are asked, from coarse to fine.
    pub models: Vec<ModelId>,
    /// Where the label is a number, the size of a usual error; none where it has classes.
    pub scale: Option<f32>,
    /// What their logits, or numbers, are multiplied by.
    weights: Vec<f32>,
    /// What is then added to the logit of each class, or to the number; empty if it is nothing.
    bias: Vec<f32>,
    /// The tasks among whose samples neighbours are asked once the models have answered, from coarse to fine.
    pub neighbours: Vec<TaskId>,
    /// What their logits are multiplied by; the rest is for what the models and adapters answer.
    shares: Vec<f32>,
    /// Those who had a say, from coarse to fine.
    experts: Vec<Expert>,
    /// What each expert adds to the logits, or the number, of its answer: experts × classes.
    biases: Vec<f32>,
}

/// What tasks have learned from their labels, as pools are made of it.
#[derive(Clone, Copy)]
pub struct Corrections<'a> {
    /// Their adapters.
    pub adapters: &'a Adapters,
    /// Their latest samples.
    pub neighbours: &'a Neighbours,
}

impl Pool {
    /// The pool of a path; none if no model answers for it. With `lessons`, tasks correct their models.
    pub fn new(
        path: &TaskPath,
        deployed: &Deployed,
        lessons: Option<Corrections<'_>>,
        integration: Integration,
        kind: LabelKind,
    ) -> Option<Pool> {
        let nodes = path.nodes.len();
        let width = kind.width();
        let known = path.nodes.iter().find_map(|node| deployed.get(&node.task));
        let mut pool = Pool {
            models: Vec::with_capacity(nodes),
            scale: match kind {
                LabelKind::Classes(_) => None,
                LabelKind::Number => Some(known.and_then(|known| known.scale).unwrap_or(1.0)),
            },
            weights: Vec::new(),
            bias: Vec::new(),
            neighbours: Vec::new(),
            shares: Vec::new(),
            experts: Vec::with_capacity(KINDS * nodes),
            biases: Vec::with_capacity(KINDS * nodes * width),
        };
        // By expert, what speaks for it beforehand.
        let mut scores = Vec::with_capacity(KINDS * nodes);
        let mut evidence = 0.0;
        // The last one that is met is that of the path's end.
        let mut leaf: Option<&Adapter> = None;
        for (depth, node) in path.nodes.iter().enumerate() {
            let slot = slot(depth);
            if let Some(answering) = deployed.get(&node.task) {
                pool.models.push(answering.model);
                evidence += answering.evidence.min(MOST_EVIDENCE);
                pool.add(slot, None, width);
                scores.push(evidence);
            }
            if let (Some(lessons), Some(source)) = (lessons, pool.models.last()) {
                leaf = lessons.adapters.get(&node.task).map(|adapter| &**adapter);
                let own = leaf.filter(|adapter| adapter.source == source.task);
                pool.add(slot + 1, own, width);
                scores.push(evidence);
            }
        }
        if pool.models.is_empty() {
            return None;
        }
        let corrected = pool.experts.len();
        if let (Some(lessons), false) = (lessons, integration == Integration::Leaf) {
            pool.ask_neighbours(path, lessons.neighbours);
            scores.resize(pool.experts.len(), evidence);
        }
        let (scores, shares) = scores.split_at_mut(corrected);
        pool.weigh(scores, shares, leaf, integration);
        let neighbours = pool.experts.split_off(corrected);
        pool.settle(scores, width);
        pool.settle_neighbours(&neighbours, shares, width);
        Some(pool)
    }

    /// Adds those of the two finest tasks that have samples to compare with.
    fn ask_neighbours(&mut self, path: &TaskPath, known: &Neighbours) {
        let coarser = path.nodes.len().saturating_sub(NEIGHBOURHOODS);
        for (depth, node) in path.nodes.iter().enumerate().skip(coarser) {
            if known.knows(node.task) {
                self.neighbours.push(node.task);
                self.experts.push(Expert {
                    slot: slot(depth) + 2,
                    answer: 0,
                });
            }
        }
    }

    /// The pool of a model that answers alone, for classes.
    pub fn of(model: ModelId, classes: usize) -> Pool {
        Pool {
            models: vec![model],
            scale: None,
            weights: vec![1.0],
            bias: Vec::new(),
            neighbours: Vec::new(),
            shares: Vec::new(),
            experts: vec![Expert { slot: 0, answer: 0 }],
            biases: vec![0.0; classes],
        }
    }

    /// Leaves out who belongs to none of the first so many tasks of the path. The answer stays as it was.
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

    fn add(&mut self, slot: u16, adapter: Option<&Adapter>, width: usize) {
        self.experts.push(Expert {
            slot,
            answer: self.models.len() as u16 - 1,
        });
        if let Some(adapter) = adapter {
            adapter.shift(self.scale, &mut self.biases);
        }
        self.biases.resize(self.experts.len() * width, 0.0);
    }

    /// Turns scores into weights: those of models and adapters among themselves, and the neighbours' shares of all. What
    /// models and adapters answer is asked for however little it counts then: neighbours begin with it.
    fn weigh(
        &self,
        scores: &mut [f32],
        shares: &mut [f32],
        leaf: Option<&Adapter>,
        integration: Integration,
    ) {
        match integration {
            Integration::Leaf => {
                let last = scores.len() - 1;
                scores.fill(0.0);
                scores[last] = 1.0;
            }
            Integration::Average => {
                shares.fill(1.0 / (scores.len() + shares.len()) as f32);
                scores.fill(1.0 / scores.len() as f32);
            }
            Integration::Weighted => {
                let all = scores.iter_mut().chain(shares.iter_mut());
                for (score, expert) in all.zip(&self.experts) {
                    let lost = leaf.map_or(0.0, |leaf| leaf.excess(expert.slot));
                    *score = RATE * (*score - lost);
                }
                let all = || scores.iter().chain(shares.iter());
                let highest = all().copied().fold(f32::MIN, f32::max);
                let total: f32 = all().map(|score| (score - highest).exp()).sum();
                for share in shares.iter_mut() {
                    *share = (*share - highest).exp() / total;
                }
                softmax(scores);
            }
        }
    }

    /// Leaves out the models that have next to no weight, and adds up the rest.
    fn settle(&mut self, shares: &[f32], width: usize) {
        self.weights.resize(self.models.len(), 0.0);
        for (expert, share) in self.experts.iter().zip(shares) {
            self.weights[expert.answer as usize] += share;
        }
        let asked = self.weights.iter().filter(|weight| is_asked(**weight));
        let total: f32 = asked.sum();
        let mut bias = vec![0.0; width];
        let all = self.experts.iter().zip(self.biases.chunks_exact(width));
        for ((expert, own), share) in all.zip(shares) {
            if is_asked(self.weights[expert.answer as usize]) {
                for (sum, own) in bias.iter_mut().zip(own) {
                    *sum += own * share / total;
                }
            }
        }
        if bias.iter().any(|bias| *bias != 0.0) {
            self.bias = bias;
        }
        if !self.weights.iter().all(|weight| is_asked(*weight)) {
            self.leave_out(width);
        }
        for weight in &mut self.weights {
            *weight /= total;
        }
    }

    /// Leaves out the neighbours that have next to no weight; the others' answers come behind the models'.
    fn settle_neighbours(&mut self, experts: &[Expert], shares: &[f32], width: usize) {
        let mut tasks = std::mem::take(&mut self.neighbours).into_iter();
        for (expert, share) in experts.iter().zip(shares) {
            let task = tasks.next();
            if let (Some(task), true) = (task, is_asked(*share)) {
                self.experts.push(Expert {
                    slot: expert.slot,
                    answer: (self.models.len() + self.neighbours.len()) as u16,
                });
                self.neighbours.push(task);
                self.shares.push(*share);
            }
        }
        self.biases.resize(self.experts.len() * width, 0.0);
    }

    /// Leaves out the models that are not asked, and their experts.
    fn leave_out(&mut self, width: usize) {
        let mut left = 0;
        let place_of = self.weights.iter().map(|weight| {
            left += u16::from(is_asked(*weight));
            is_asked(*weight).then_some(left.saturating_sub(1))
        });
        let place_of: Vec<Option<u16>> = place_of.collect();
        let (mut experts, mut biases) = (Vec::new(), Vec::new());
        for (expert, own) in self.experts.iter().zip(self.biases.chunks_exact(width)) {
            if let Some(model) = place_of[expert.answer as usize] {
                biases.extend_from_slice(own);
                experts.push(Expert {
                    slot: expert.slot,
                    answer: model,
                });
            }
        }
        (self.experts, self.biases) = (experts, biases);
        let mut places = place_of.iter();
        self.models
            .retain(|_| places.next().is_some_and(Option::is_some));
        self.weights.retain(|weight| is_asked(*weight));
    }

    /// The model with the most weight, the finest of equals.
    pub fn main(&self) -> ModelId {
        let mut main = 0;
        for (model, weight) in self.weights.iter().enumerate() {
            if *weight >= self.weights[main] {
                main = model;
            }
        }
        self.models[main]
    }

    /// How many answers there are to one sample.
    pub fn answers(&self) -> usize {
        self.models.len() + self.neighbours.len()
    }

    /// The probabilities, or the number, of one sample from what each model said of it, models × classes; without its
    /// neighbours.
    pub fn integrate(&self, answers: &[f32], probabilities: &mut [f32]) {
        let classes = probabilities.len();
        if self.models.len() == 1 && self.bias.is_empty() {
            probabilities.copy_from_slice(&answers[..classes]);
            return;
        }
        match self.bias.is_empty() {
            true => probabilities.fill(0.0),
            false => probabilities.copy_from_slice(&self.bias),
        }
        if self.scale.is_some() {
            let said = self.weights.iter().zip(answers);
            probabilities[0] += said.map(|(weight, said)| weight * said).sum::<f32>();
            return;
        }
        for (weight, said) in self.weights.iter().zip(answers.chunks_exact(classes)) {
            for (logit, probability) in probabilities.iter_mut().zip(said) {
                *logit += weight * log(*probability);
            }
        }
        softmax(probabilities);
    }

    /// What becomes of these probabilities, or this number, by what the sample's neighbours said, neighbours × classes.
    pub fn conclude(&self, answers: &[f32], probabilities: &mut [f32]) {
        if self.scale.is_some() {
            let before = probabilities[0];
            for (share, said) in self.shares.iter().zip(answers) {
                probabilities[0] += share * (said - before);
            }
            return;
        }
        let rest = 1.0 - self.shares.iter().sum::<f32>();
        for probability in probabilities.iter_mut() {
            *probability = rest * log(*probability);
        }
        let classes = probabilities.len();
        for (share, said) in self.shares.iter().zip(answers.chunks_exact(classes)) {
            for (logit, probability) in probabilities.iter_mut().zip(said) {
                *logit += share * log(*probability);
            }
        }
        softmax(probabilities);
    }

    /// How far those who were asked are from the answer that became of it: the mean of their Kullback-Leibler divergences,
    /// nats, or of a number how far they are off, in scales. Where probabilities are averaged as logits are, that is the
    /// energy of the averaged logits, −ln Σ exp (Liu et al. 2020, "Energy-based out-of-distribution detection", §3.1).
    pub(crate) fn disagreement(&self, answers: &[f32], answer: &[f32]) -> f32 {
        let rest = 1.0 - self.shares.iter().sum::<f32>();
        let models = self.weights.iter().map(|weight| rest * weight);
        let weights = models.chain(self.shares.iter().copied());
        let apart = |said: &[f32]| match self.scale {
            Some(scale) => (said[0] - answer[0]).abs() / scale,
            None => {
                let classes = answer.iter().zip(said).filter(|(there, _)| **there > 0.0);
                classes
                    .map(|(there, said)| there * (log(*there) - log(*said)))
                    .sum()
            }
        };
        let said = answers.chunks_exact(answer.len());
        weights
            .zip(said)
            .map(|(weight, said)| weight * apart(said))
            .sum()
    }

    /// What an answer to a sample loses, nats: the probabilities of the classes, or a number.
    pub(crate) fn loss(&self, answer: &[f32], label: f32) -> f32 {
        match self.scale {
            None => -log(answer[label as usize]),
            Some(scale) => number_loss(answer[0] - label, scale),
        }
    }

    /// Hands over what each expert lost when a label became known, nats. `logits` is scratch.
    pub(crate) fn losses(
        &self,
        answers: &[f32],
        label: f32,
        logits: &mut Vec<f32>,
        mut each: impl FnMut(Expert, f32),
    ) {
        let width = self.biases.len() / self.experts.len();
        for (expert, biases) in self.experts.iter().zip(self.biases.chunks_exact(width)) {
            let start = expert.answer as usize * width;
            let said = &answers[start..start + width];
            if self.scale.is_some() {
                each(*expert, self.loss(&[said[0] + biases[0]], label));
                continue;
            }
            logits.clear();
            logits.extend(
                said.iter()
                    .zip(biases)
                    .map(|(said, bias)| log(*said) + bias),
            );
            let highest = logits.iter().copied().fold(f32::MIN, f32::max);
            let total: f32 = logits.iter().map(|logit| (logit - highest).exp()).sum();
            each(*expert, highest + total.ln() - logits[label as usize]);
        }
    }

    /// For each depth of the path the model that its adapter corrects, if it has a say.
    pub(crate) fn corrected(&self, depth: usize) -> Option<usize> {
        let slot = slot(depth) + 1;
        let expert = self.experts.iter().find(|expert| expert.slot == slot)?;
        Some(expert.answer as usize)
    }
}

/// The first of the slots of a task.
fn slot(depth: usize) -> u16 {
    (KINDS * depth) as u16
}

/// Whether a model of such a weight is asked.
fn is_asked(weight: f32) -> bool {
    weight >= LEAST_WEIGHT
}

/// The logarithm of a probability that is not quite zero; NaN counts as zero.
pub(crate) fn log(probability: f32) -> f32 {
    probability.max(LEAST_PROBABILITY).ln()
}

/// Turns logits into probabilities.
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
