//! Neighbours: the latest labelled samples of a task that resemble a sample vote on its label.
//!
//! Models are fitted now and then, and adapters do not look at features. What a site has just
//! learned of people or machines in much the same state is in its latest labelled samples. Each
//! votes for its label with a Gaussian kernel of its distance (Nadaraya 1964, "On estimating
//! regression", Theory of Probability & Its Applications 9(1)), and the prediction of models and
//! adapters counts as one more sample, as in Khandelwal et al. 2020, "Generalization through
//! memorization: nearest neighbor language models", §2. The two finest tasks of a path have
//! neighbours; each is an expert in the path's [pool](super::pool).

use rustc_hash::FxHashMap;

use super::distance::{add_squares, scales};
use crate::data::{LabelKind, RecentMoved, TaskId};

/// Width of the kernel, in standard deviations of a feature. This and the next constant were chosen
/// on the bootstrap part of the thermal comfort stream, where 0.25 to 0.4 did about as well.
const WIDTH: f32 = 0.3;
/// Weight of the prediction without neighbours, in samples.
const PRIOR: f32 = 1.0;
/// Squared distance, in squared widths, from which a sample is left out: its weight is below
/// 1/1000.
const FAR: f32 = 14.0;

/// The latest labelled samples of one task, in a ring buffer.
#[derive(Default)]
struct Ring {
    labels: Vec<f32>,
    /// Feature values, features × room: one column a feature, NaN = missing.
    columns: Vec<f32>,
    /// Number of missing values of each feature, free places included.
    missing: Vec<u32>,
    /// Number of samples that the columns have room for.
    room: usize,
    /// Place of the next sample, once the ring is full: that of the oldest one.
    next: usize,
}

impl Ring {
    /// Adds a sample; drops the oldest one if there are `most`.
    fn push(&mut self, label: f32, features: &[f32], most: usize) {
        let at = if self.labels.len() < most {
            if self.labels.len() == self.room {
                self.grow(features.len(), most);
            }
            self.labels.push(label);
            self.labels.len() - 1
        } else {
            self.labels[self.next] = label;
            self.next = (self.next + 1) % most;
            (self.next + most - 1) % most
        };
        for (column, value) in features.iter().enumerate() {
            // A free place counts as missing.
            let place = &mut self.columns[column * self.room + at];
            self.missing[column] += u32::from(value.is_nan());
            self.missing[column] -= u32::from(place.is_nan());
            *place = *value;
        }
    }

    /// Doubles the room, up to `most`: of many tasks, most have few samples.
    fn grow(&mut self, width: usize, most: usize) {
        let room = (2 * self.room).clamp(most.min(4), most);
        let mut columns = vec![f32::NAN; width * room];
        let held = self.labels.len();
        for column in 0..width {
            columns[column * room..column * room + held]
                .copy_from_slice(&self.columns[column * self.room..column * self.room + held]);
        }
        self.missing.resize(width, 0);
        for missing in &mut self.missing {
            *missing += (room - self.room) as u32;
        }
        (self.columns, self.room) = (columns, room);
    }

    /// Places of the samples, oldest first. In this order sums are the same, to the last bit, in a
    /// ring that was filled again after a restart.
    fn oldest_first(&self) -> impl Iterator<Item = usize> + use<> {
        (self.next..self.labels.len()).chain(0..self.next)
    }

    /// Mean squared distance of each sample to `features`, in standard deviations.
    ///
    /// The mean is over the features that both samples have. A feature in which no sample differs
    /// from `features` is left out: it does not show which samples are alike. `known` is scratch.
    fn distances(&self, features: &[f32], scales: &[f32], to: &mut Vec<f32>, known: &mut Vec<f32>) {
        let held = self.labels.len();
        for scratch in [&mut *to, &mut *known] {
            scratch.clear();
            scratch.resize(held, 0.0);
        }
        let free = (self.room - held) as u32;
        // Number of features that all samples have.
        let mut common = 0.0;
        for (column, (value, scale)) in features.iter().zip(scales).enumerate() {
            let missing = self.missing[column] - free;
            let column = &self.columns[column * self.room..][..held];
            if add_squares(column, *value, *scale, to) {
                if missing == 0 {
                    common += 1.0;
                } else {
                    for (known, other) in known.iter_mut().zip(column) {
                        *known += if other.is_nan() { 0.0 } else { 1.0 };
                    }
                }
            }
        }
        for (sum, known) in to.iter_mut().zip(known) {
            *sum /= (*known + common).max(1.0);
        }
    }
}

/// The latest labelled samples of every task that has any.
///
/// ```
/// use std::sync::Arc;
///
/// use perennial_operators::algorithms::neighbours::Neighbours;
/// use perennial_operators::{LabelKind, RecentMoved, RecentSamples, TaskId};
///
/// let task = TaskId(1);
/// let samples = RecentSamples {
///     sequences: vec![0, 1],
///     times: vec![0, 0],
///     labels: vec![0.0, 1.0],
///     features: vec![20.0, 30.0], // one feature a sample
/// };
/// let mut neighbours = Neighbours::new(100);
/// neighbours.set_deviations(&[5.0]); // the standard deviation of the feature
/// neighbours.add(&RecentMoved {
///     task,
///     parent: None,
///     samples: Arc::new(samples),
///     left: Vec::new(),
/// });
///
/// // The models are undecided; the nearest sample has class 1.
/// let mut probabilities = [0.0; 2];
/// let kind = LabelKind::Classes(2);
/// neighbours.predict(task, &[30.5], kind, &[0.5, 0.5], &mut probabilities);
/// assert!(probabilities[1] > 0.7);
/// ```
#[derive(Default)]
pub struct Neighbours {
    /// Most samples of a task; 0 turns neighbours off.
    most: usize,
    /// Inverse of each feature's standard deviation; 0 for a feature that does not vary.
    scales: Vec<f32>,
    rings: FxHashMap<TaskId, Ring>,
    /// Scratch: squared distances, and number of features of each.
    distances: Vec<f32>,
    known: Vec<f32>,
}

impl Neighbours {
    /// Creates an empty memory for at most `most` samples of each task.
    pub fn new(most: usize) -> Self {
        Neighbours {
            most,
            ..Neighbours::default()
        }
    }

    /// Sets each feature's standard deviation. Before the first time, no sample has neighbours.
    pub fn set_deviations(&mut self, deviations: &[f32]) {
        self.scales = scales(deviations);
    }

    /// Adds new samples of a finest task, to it and to its parent.
    pub fn add(&mut self, moved: &RecentMoved) {
        if self.most == 0 {
            return;
        }
        let width = moved.samples.width();
        for task in [Some(moved.task), moved.parent].into_iter().flatten() {
            let ring = self.rings.entry(task).or_default();
            let features = moved.samples.features.chunks_exact(width.max(1));
            for (label, features) in moved.samples.labels.iter().zip(features) {
                ring.push(*label, features, self.most);
            }
        }
    }

    /// Whether samples of a task can have neighbours.
    pub fn knows(&self, task: TaskId) -> bool {
        !self.scales.is_empty() && self.rings.contains_key(&task)
    }

    /// Predicts a sample from its neighbours in a task and the prediction without them, `prior`.
    ///
    /// `prior` and `to` hold one probability a class, or the number.
    pub fn predict(
        &mut self,
        task: TaskId,
        features: &[f32],
        kind: LabelKind,
        prior: &[f32],
        to: &mut [f32],
    ) {
        for (to, prior) in to.iter_mut().zip(prior) {
            *to = match kind {
                LabelKind::Classes(_) => PRIOR * prior,
                LabelKind::Number => 0.0,
            };
        }
        let mut total = PRIOR;
        if let Some(ring) = self.rings.get(&task) {
            ring.distances(features, &self.scales, &mut self.distances, &mut self.known);
            for at in ring.oldest_first() {
                let (label, squares) = (ring.labels[at], self.distances[at] / (WIDTH * WIDTH));
                if squares < FAR {
                    let weight = (-0.5 * squares).exp();
                    total += weight;
                    match kind {
                        LabelKind::Classes(_) => to[label as usize] += weight,
                        // As a difference: neighbours that agree change nothing, to the last bit.
                        LabelKind::Number => to[0] += weight * (label - prior[0]),
                    }
                }
            }
        }
        to.iter_mut().for_each(|to| *to /= total);
        if kind == LabelKind::Number {
            to[0] += prior[0];
        }
    }
}
