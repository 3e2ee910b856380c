//! Weights of a path's experts: how a [`Pool`] is built.

use super::{Corrections, Deployed, Expert, Integration, KINDS, Pool, slot, softmax};
use crate::algorithms::adapter::Adapter;
use crate::algorithms::neighbours::Neighbours;
use crate::data::{LabelKind, TaskPath};

/// Decrease of an expert's log weight by each nat that it loses. Chosen on the
/// same data as the constants of adapters.
const RATE: f32 = 0.1;
/// Least weight that counts, of a model over all its experts or of neighbours. A model below it is
/// not evaluated.
const LEAST_WEIGHT: f32 = 0.001;
/// Limit of a model's evidence from its evaluation, nats: live losses must be able to outweigh it.
const MOST_EVIDENCE: f32 = 50.0;
/// Number of finest tasks of a path that have neighbours.
const NEIGHBOURHOODS: usize = 2;

impl Pool {
    /// Builds the pool of a path; none if no task on it has a model. Without `corrections`, the
    /// experts are models alone.
    pub fn new(
        path: &TaskPath,
        deployed: &Deployed,
        corrections: Option<Corrections<'_>>,
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
        // By expert, the evidence for it before any live loss, nats.
        let mut scores = Vec::with_capacity(KINDS * nodes);
        let mut evidence = 0.0;
        // In the end, the adapter of the finest task.
        let mut leaf: Option<&Adapter> = None;
        for (depth, node) in path.nodes.iter().enumerate() {
            let slot = slot(depth);
            if let Some(deployed) = deployed.get(&node.task) {
                pool.models.push(deployed.model);
                evidence += deployed.evidence.min(MOST_EVIDENCE);
                pool.add(slot, None, width);
                scores.push(evidence);
            }
            if let (Some(corrections), Some(source)) = (corrections, pool.models.last()) {
                leaf = corrections
                    .adapters
                    .get(&node.task)
                    .map(|adapter| &**adapter);
                let own = leaf.filter(|adapter| adapter.source == source.task);
                pool.add(slot + 1, own, width);
                scores.push(evidence);
            }
        }
        if pool.models.is_empty() {
            return None;
        }
        let corrected = pool.experts.len();
        if let (Some(corrections), false) = (corrections, integration == Integration::Leaf) {
            pool.add_neighbours(path, corrections.neighbours);
            scores.resize(pool.experts.len(), evidence);
        }
        let (scores, shares) = scores.split_at_mut(corrected);
        pool.weigh(scores, shares, leaf, integration);
        let neighbours = pool.experts.split_off(corrected);
        pool.set_weights(scores, width);
        pool.set_shares(&neighbours, shares, width);
        Some(pool)
    }

    /// Adds the neighbours of each of the two finest tasks that has any.
    fn add_neighbours(&mut self, path: &TaskPath, known: &Neighbours) {
        let coarser = path.nodes.len().saturating_sub(NEIGHBOURHOODS);
        for (depth, node) in path.nodes.iter().enumerate().skip(coarser) {
            if known.knows(node.task) {
                self.neighbours.push(node.task);
                self.experts.push(Expert {
                    slot: slot(depth) + 2,
                    output: 0,
                });
            }
        }
    }

    /// Adds the last model as an expert, with or without an adapter on it.
    fn add(&mut self, slot: u16, adapter: Option<&Adapter>, width: usize) {
        self.experts.push(Expert {
            slot,
            output: self.models.len() as u16 - 1,
        });
        if let Some(adapter) = adapter {
            adapter.shift(self.scale, &mut self.biases);
        }
        self.biases.resize(self.experts.len() * width, 0.0);
    }

    /// Converts evidence into weights: `scores` of models and adapters among themselves, `shares`
    /// of neighbours among all experts.
    ///
    /// The weights of models and adapters sum to 1 however little they count beside neighbours,
    /// which need their prediction to start from.
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

    /// Sums the weights and biases of each model's experts, and drops the models with a weight
    /// below [`LEAST_WEIGHT`].
    fn set_weights(&mut self, shares: &[f32], width: usize) {
        self.weights.resize(self.models.len(), 0.0);
        for (expert, share) in self.experts.iter().zip(shares) {
            self.weights[expert.output as usize] += share;
        }
        let counted = self.weights.iter().filter(|weight| counts(**weight));
        let total: f32 = counted.sum();
        let mut bias = vec![0.0; width];
        let all = self.experts.iter().zip(self.biases.chunks_exact(width));
        for ((expert, own), share) in all.zip(shares) {
            if counts(self.weights[expert.output as usize]) {
                for (sum, own) in bias.iter_mut().zip(own) {
                    *sum += own * share / total;
                }
            }
        }
        if bias.iter().any(|bias| *bias != 0.0) {
            self.bias = bias;
        }
        if !self.weights.iter().all(|weight| counts(*weight)) {
            self.drop_models(width);
        }
        for weight in &mut self.weights {
            *weight /= total;
        }
    }

    /// Keeps the neighbours with a share of at least [`LEAST_WEIGHT`]; their outputs follow the
    /// models'.
    fn set_shares(&mut self, experts: &[Expert], shares: &[f32], width: usize) {
        let mut tasks = std::mem::take(&mut self.neighbours).into_iter();
        for (expert, share) in experts.iter().zip(shares) {
            let task = tasks.next();
            if let (Some(task), true) = (task, counts(*share)) {
                self.experts.push(Expert {
                    slot: expert.slot,
                    output: (self.models.len() + self.neighbours.len()) as u16,
                });
                self.neighbours.push(task);
                self.shares.push(*share);
            }
        }
        self.biases.resize(self.experts.len() * width, 0.0);
    }

    /// Drops the models whose weight does not count, and their experts.
    fn drop_models(&mut self, width: usize) {
        let mut kept = 0;
        let place_of = self.weights.iter().map(|weight| {
            kept += u16::from(counts(*weight));
            counts(*weight).then_some(kept.saturating_sub(1))
        });
        let place_of: Vec<Option<u16>> = place_of.collect();
        let (mut experts, mut biases) = (Vec::new(), Vec::new());
        for (expert, own) in self.experts.iter().zip(self.biases.chunks_exact(width)) {
            if let Some(model) = place_of[expert.output as usize] {
                biases.extend_from_slice(own);
                experts.push(Expert {
                    slot: expert.slot,
                    output: model,
                });
            }
        }
        (self.experts, self.biases) = (experts, biases);
        let mut places = place_of.iter();
        self.models
            .retain(|_| places.next().is_some_and(Option::is_some));
        self.weights.retain(|weight| counts(*weight));
    }
}

/// Whether an expert of this weight counts.
fn counts(weight: f32) -> bool {
    weight >= LEAST_WEIGHT
}
