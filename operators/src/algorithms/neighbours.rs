//! Neighbours: what the latest labelled samples of a task say of a sample that resembles them.
//!
//! Models are fitted now and then, and adapters do not look at features. What a site has just learned of people or
//! machines in much the same state is in its latest labelled samples: each votes for its label with a Gaussian kernel of
//! its distance (Nadaraya 1964, "On estimating regression", Theory of Probability & Its Applications 9(1)), and what the
//! models and adapters answer counts as one more sample, as in Khandelwal et al. 2020, "Generalization through memorization:
//! nearest neighbor language models", §2. This is done for the two finest tasks of a path, each an expert in its
//! [integration](super::pool).

use rustc_hash::FxHashMap;

use super::distance::{add_squares, scales};
use crate::data::{LabelKind, RecentMoved, TaskId};

/// The kernel's width, in standard deviations of a feature. This and what follows was chosen on the bootstrap part of the
/// thermal comfort stream, where 0.25 to 0.4 did about as well.
const WIDTH: f32 = 0.3;
/// What the answer without neighbours counts, in samples.
const PRIOR: f32 = 1.0;
/// A sample farther away than this many squared widths would count less than 1/1000.
const FAR: f32 = 14.0;

/// The latest labelled samples of one task, as a ring.
#[derive(Default)]
struct Ring {
    labels: Vec<f32>,
    /// Feature by feature, each with room for as many values as there is room for labels. Once it is known how much features
    /// vary, in standard deviations.
    columns: Vec<f32>,
    /// How many values of each feature are missing.
    missing: Vec<u32>,
    /// How many samples there is room for.
    room: usize,
    /// Where the next one goes, once the ring is full.
    next: usize,
}

impl Ring {
    fn push(&mut self, label: f32, features: impl ExactSizeIterator<Item = f32>, most: usize) {
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
        for (column, value) in features.enumerate() {
            // Where there was nothing yet, that was missing.
            let place = &mut self.columns[column * self.room + at];
            self.missing[column] += u32::from(value.is_nan());
            self.missing[column] -= u32::from(place.is_nan());
            *place = value;
        }
    }

    /// Makes room, twice as much each time: most of many tasks have few samples.
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

    /// Turns values into standard deviations.
    fn scale(&mut self, scales: &[f32]) {
        if self.room > 0 {
            for (column, scale) in self.columns.chunks_exact_mut(self.room).zip(scales) {
                column.iter_mut().for_each(|value| *value *= scale);
            }
        }
    }

    /// The places of the samples. Sums over them come out the same, to the last bit, in a ring that was filled anew after a
    /// restart.
    fn oldest_first(&self) -> impl Iterator<Item = usize> + use<> {
        (self.next..self.labels.len()).chain(0..self.next)
    }

    /// Squared distances in standard deviations, over the features that both samples have and in which any of the ring's
    /// differs from `features`: what is always the same says nothing of who resembles whom.
    fn distances(&self, features: &[f32], to: &mut Vec<f32>, known: &mut Vec<f32>) {
        let held = self.labels.len();
        for scratch in [&mut *to, &mut *known] {
            scratch.clear();
            scratch.resize(held, 0.0);
        }
        let free = (self.room - held) as u32;
        // Features that all samples have.
        let mut common = 0.0;
        for (column, value) in features.iter().enumerate() {
            let missing = self.missing[column] - free;
            let column = &self.columns[column * self.room..][..held];
            if add_squares(column, *value, to) {
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
#[derive(Default)]
pub struct Neighbours {
    /// How many of each task; none at all if 0.
    most: usize,
    /// For each feature what makes one standard deviation of it 1; 0 where it does not vary.
    scales: Vec<f32>,
    rings: FxHashMap<TaskId, Ring>,
    /// Scratch: the features asked about, squared distances, and how many features each is made of.
    features: Vec<f32>,
    distances: Vec<f32>,
    known: Vec<f32>,
}

impl Neighbours {
    /// Up to `most` samples of each task, none of which is known yet.
    pub fn new(most: usize) -> Self {
        Neighbours {
            most,
            ..Neighbours::default()
        }
    }

    /// Takes in, once, how much each feature varies, as standard deviations. Before, nobody has neighbours.
    pub fn scale(&mut self, deviations: &[f32]) {
        if !self.scales.is_empty() {
            return;
        }
        self.scales = scales(deviations);
        for ring in self.rings.values_mut() {
            ring.scale(&self.scales);
        }
    }

    /// Takes in samples of a finest task.
    pub fn learn(&mut self, moved: &RecentMoved) {
        if self.most == 0 {
            return;
        }
        let width = moved.samples.width();
        for task in [Some(moved.task), moved.parent].into_iter().flatten() {
            let ring = self.rings.entry(task).or_default();
            let features = moved.samples.features.chunks_exact(width.max(1));
            for (label, features) in moved.samples.labels.iter().zip(features) {
                match self.scales.is_empty() {
                    true => ring.push(*label, features.iter().copied(), self.most),
                    false => ring.push(*label, scaled(features, &self.scales), self.most),
                }
            }
        }
    }

    /// Whether a sample of the task can have neighbours.
    pub fn knows(&self, task: TaskId) -> bool {
        !self.scales.is_empty() && self.rings.contains_key(&task)
    }

    /// The probabilities, or the number, of a sample by its neighbours in a task; `prior` is the answer without them.
    pub fn answer(
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
            self.features.clear();
            self.features.extend(scaled(features, &self.scales));
            ring.distances(&self.features, &mut self.distances, &mut self.known);
            for at in ring.oldest_first() {
                let (label, squares) = (ring.labels[at], self.distances[at] / (WIDTH * WIDTH));
                if squares < FAR {
                    let weight = (-0.5 * squares).exp();
                    total += weight;
                    match kind {
                        LabelKind::Classes(_) => to[label as usize] += weight,
                        // By how much they differ: those that agree change nothing, to the last bit.
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

/// Features in standard deviations.
fn scaled(features: &[f32], scales: &[f32]) -> impl ExactSizeIterator<Item = f32> {
    features
        .iter()
        .zip(scales)
        .map(|(value, scale)| value * scale)
}
