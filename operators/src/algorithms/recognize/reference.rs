//! What samples of known tasks look like: what those that come are compared with.
//!
//! Near known tasks is what is near the centre of one of them, in units of how samples lie around their centres. That is
//! the distance of Mahalanobis with one covariance for all tasks, as in Lee et al. 2018, "A simple unified framework for
//! detecting out-of-distribution samples and adversarial attacks", §2.1; the covariance is shrunk as Ledoit & Wolf 2004,
//! "A well-conditioned estimator for large-dimensional covariance matrices", §3.3, have it, so that few samples of many
//! features still have one that can be inverted. Or it is what is near samples of known tasks, whatever their shape.

use std::sync::Arc;

use nalgebra::DMatrix;
use serde::{Deserialize, Serialize};

use crate::algorithms::distance::add_squares;
use crate::data::TaskId;

/// Tasks whose centres are known, those with the most samples.
const MOST_CENTRES: usize = 64;
/// Samples that a task needs before it has a centre of its own.
const LEAST_OF_TASK: usize = 20;
/// Samples that are remembered, evenly drawn.
const MOST_SAMPLES: usize = 256;
/// How often the values of missing features are improved.
const SWEEPS: usize = 4;
/// How many of the nearest samples are looked at: the distance is that of the farthest of them.
const NEAREST: usize = 3;

/// What samples of known tasks look like. All is in standard deviations of features.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reference {
    /// For each feature its mean, and what makes one standard deviation 1; 0 where it does not vary.
    means: Vec<f32>,
    scales: Vec<f32>,
    /// The tasks that have centres.
    pub tasks: Vec<KnownTask>,
    /// Centre by centre.
    centres: Vec<f32>,
    /// The inverse of the covariance of how far samples are from their centres, row by row.
    precision: Vec<f32>,
    /// How much of the covariance is that of independent features which all vary the same, 0 to 1.
    pub shrinkage: f32,
    /// Samples, feature by feature; what is missing is at the mean.
    samples: Vec<f32>,
}

/// A task that samples are compared with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownTask {
    /// Which.
    pub task: TaskId,
    /// Its name.
    pub name: Arc<str>,
}

/// A sample that a reference is made of.
#[derive(Clone, Copy, Debug)]
pub struct ReferenceSample<'a> {
    /// Its finest task.
    pub task: TaskId,
    /// Its features; NaN = missing.
    pub features: &'a [f32],
}

/// How near a sample is to known tasks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Nearness {
    /// Its squared distance of Mahalanobis to the nearest centre, by the number of its features.
    pub density: f32,
    /// The mean square of how far its features are from those of the nearest samples; NaN if that was not asked for.
    pub nearest: f32,
    /// The place of the task with the nearest centre.
    pub task: usize,
}

/// What is worked with, sample after sample.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    features: Vec<f32>,
    apart: Vec<f32>,
    squares: Vec<f32>,
}

impl Reference {
    /// What some samples look like, of which those that come first are remembered; none without any. `name` knows what tasks
    /// are called.
    pub fn of(
        samples: &[ReferenceSample<'_>],
        name: impl Fn(TaskId) -> Option<Arc<str>>,
    ) -> Option<Reference> {
        let width = samples.first()?.features.len();
        let mut reference = Reference {
            means: vec![0.0; width],
            scales: vec![0.0; width],
            ..Reference::default()
        };
        reference.scale(samples);
        let scaled: Vec<Vec<f32>> = samples
            .iter()
            .map(|sample| reference.scaled(sample.features).collect())
            .collect();
        let centre_of = reference.add_centres(samples, &scaled, name);
        reference.add_precision(&scaled, &centre_of);
        let held = &scaled[..scaled.len().min(MOST_SAMPLES)];
        for feature in 0..width {
            reference
                .samples
                .extend(held.iter().map(|sample| known(sample[feature])));
        }
        Some(reference)
    }

    /// Learns the means and deviations of features.
    fn scale(&mut self, samples: &[ReferenceSample<'_>]) {
        for (feature, (mean, scale)) in self.means.iter_mut().zip(&mut self.scales).enumerate() {
            let values = || {
                let values = samples
                    .iter()
                    .map(|sample| f64::from(sample.features[feature]));
                values.filter(|value| value.is_finite())
            };
            let count = values().count().max(1) as f64;
            let middle = values().sum::<f64>() / count;
            let variance = values().map(|value| (value - middle).powi(2)).sum::<f64>() / count;
            *mean = middle as f32;
            // What varies by less than floats can tell does not vary.
            *scale = match variance.sqrt() {
                deviation if deviation > middle.abs() * 1e-6 => deviation.recip() as f32,
                _ => 0.0,
            };
        }
    }

    /// Features in standard deviations; NaN = missing.
    fn scaled(&self, features: &[f32]) -> impl Iterator<Item = f32> {
        let known = features.iter().zip(&self.means).zip(&self.scales);
        known.map(|((value, mean), scale)| (value - mean) * scale)
    }

    /// Finds the centres of tasks, and gives for each sample the place of the one that it is of.
    fn add_centres(
        &mut self,
        samples: &[ReferenceSample<'_>],
        scaled: &[Vec<f32>],
        name: impl Fn(TaskId) -> Option<Arc<str>>,
    ) -> Vec<Option<usize>> {
        let mut counts: Vec<(usize, TaskId)> = Vec::new();
        let mut tasks: Vec<TaskId> = samples.iter().map(|sample| sample.task).collect();
        tasks.sort_unstable();
        for of_task in tasks.chunk_by(|one, other| one == other) {
            counts.push((of_task.len(), of_task[0]));
        }
        counts.retain(|(count, _)| *count >= LEAST_OF_TASK);
        counts.sort_unstable_by_key(|(count, task)| (std::cmp::Reverse(*count), *task));
        counts.truncate(MOST_CENTRES);
        if counts.is_empty() {
            // Of none there are enough: all are one.
            counts.push((samples.len(), TaskId::BASE));
        }
        let is_one = counts.len() == 1 && counts[0].1 == TaskId::BASE;
        let place = |task: TaskId| match is_one {
            true => Some(0),
            false => counts.iter().position(|(_, known)| *known == task),
        };
        let centre_of: Vec<Option<usize>> = samples.iter().map(|one| place(one.task)).collect();
        let width = self.means.len();
        let mut sums = vec![(0.0_f64, 0.0_f64); counts.len() * width];
        for (sample, centre) in scaled.iter().zip(&centre_of) {
            let Some(centre) = centre else { continue };
            let sums = &mut sums[centre * width..][..width];
            for ((sum, count), value) in sums.iter_mut().zip(sample) {
                if !value.is_nan() {
                    *sum += f64::from(*value);
                    *count += 1.0;
                }
            }
        }
        self.centres = sums
            .iter()
            .map(|(sum, count)| (sum / count.max(1.0)) as f32)
            .collect();
        self.tasks = counts
            .iter()
            .map(|(_, task)| KnownTask {
                task: *task,
                name: name(*task).unwrap_or_else(|| task.to_string().into()),
            })
            .collect();
        centre_of
    }

    /// Learns how samples lie around their centres.
    fn add_precision(&mut self, scaled: &[Vec<f32>], centre_of: &[Option<usize>]) {
        let width = self.means.len();
        let apart: Vec<Vec<f64>> = scaled
            .iter()
            .zip(centre_of)
            .filter_map(|(sample, centre)| {
                let centre = &self.centres[(*centre)? * width..][..width];
                let apart = sample.iter().zip(centre);
                Some(
                    apart
                        .map(|(value, at)| f64::from(known(value - at)))
                        .collect(),
                )
            })
            .collect();
        let count = apart.len().max(1) as f64;
        let mut covariance = DMatrix::<f64>::zeros(width, width);
        let mut fourth = 0.0;
        for sample in &apart {
            fourth += sample.iter().map(|part| part * part).sum::<f64>().powi(2);
            for (row, one) in sample.iter().enumerate() {
                for (column, other) in sample.iter().enumerate() {
                    covariance[(row, column)] += one * other / count;
                }
            }
        }
        // Their m, d² and b̄², all by the number of features.
        let features = width.max(1) as f64;
        let mean = covariance.trace() / features;
        let norm = covariance.norm_squared();
        let far = norm / features - mean * mean;
        let error = (fourth / count - norm) / count / features;
        let shrinkage = match far > 0.0 {
            true => (error / far).clamp(0.0, 1.0),
            false => 1.0,
        };
        self.shrinkage = shrinkage as f32;
        // What never varies, or varies by nothing but what others do, still has some room.
        let least = 1e-4;
        let mut shrunk = covariance * (1.0 - shrinkage);
        for feature in 0..width {
            shrunk[(feature, feature)] += shrinkage * mean + least;
        }
        let inverse = match shrunk.cholesky() {
            Some(factor) => factor.inverse(),
            None => DMatrix::<f64>::identity(width, width),
        };
        self.precision = inverse.iter().map(|value| *value as f32).collect();
    }

    /// How near a sample is to known tasks, and `among_samples` too, which costs most. What is missing of it says nothing.
    pub fn nearness(
        &self,
        features: &[f32],
        among_samples: bool,
        scratch: &mut Scratch,
    ) -> Nearness {
        let Scratch {
            features: scaled,
            apart,
            squares,
        } = scratch;
        scaled.clear();
        scaled.extend(self.scaled(features));
        let there = scaled.iter().filter(|value| !value.is_nan()).count().max(1) as f32;
        let task = self.nearest_centre(scaled);
        let width = scaled.len();
        apart.clear();
        let centre = &self.centres[task * width..][..width];
        apart.extend(
            scaled
                .iter()
                .zip(centre)
                .map(|(value, at)| known(value - at)),
        );
        let density = self.density(scaled, apart);
        Nearness {
            density: density / there,
            nearest: match among_samples {
                true => self.nearest_samples(scaled, squares) / there,
                false => f32::NAN,
            },
            task,
        }
    }

    /// The squared distance of Mahalanobis of two samples, by the number of features that both have.
    pub fn apart(&self, one: &[f32], other: &[f32], scratch: &mut Scratch) -> f32 {
        let Scratch {
            features, apart, ..
        } = scratch;
        features.clear();
        features.extend(
            self.scaled(one)
                .zip(self.scaled(other))
                .map(|(one, other)| one - other),
        );
        let there = features
            .iter()
            .filter(|value| !value.is_nan())
            .count()
            .max(1) as f32;
        apart.clear();
        apart.extend(features.iter().map(|value| known(*value)));
        self.density(features, apart) / there
    }

    /// The squared distance of Mahalanobis over the features that are there, of a sample that is so far from a centre: the
    /// least over all values that the missing ones could have, found feature by feature.
    fn density(&self, scaled: &[f32], apart: &mut [f32]) -> f32 {
        let width = apart.len().max(1);
        let row = |feature: usize| &self.precision[feature * width..][..width];
        let dot = |one: &[f32], other: &[f32]| -> f32 {
            one.iter().zip(other).map(|(one, other)| one * other).sum()
        };
        if scaled.iter().any(|value| value.is_nan()) {
            for _ in 0..SWEEPS {
                let missing = scaled
                    .iter()
                    .enumerate()
                    .filter(|(_, value)| value.is_nan());
                for (feature, _) in missing {
                    let row = row(feature);
                    apart[feature] -= dot(row, apart) / row[feature];
                }
            }
        }
        let rows = self.precision.chunks_exact(width).zip(&*apart);
        rows.map(|(row, part)| part * dot(row, apart)).sum()
    }

    fn nearest_centre(&self, scaled: &[f32]) -> usize {
        let mut nearest = (0, f32::INFINITY);
        let centres = self.centres.chunks_exact(scaled.len().max(1));
        for (place, centre) in centres.enumerate() {
            let apart = scaled.iter().zip(centre);
            let far: f32 = apart.map(|(value, at)| known(value - at).powi(2)).sum();
            if far < nearest.1 {
                nearest = (place, far);
            }
        }
        nearest.0
    }

    /// The squared distance to the last of the nearest samples.
    fn nearest_samples(&self, scaled: &[f32], squares: &mut Vec<f32>) -> f32 {
        let held = self.samples.len() / scaled.len().max(1);
        squares.clear();
        squares.resize(held, 0.0);
        for (column, value) in self.samples.chunks_exact(held.max(1)).zip(scaled) {
            add_squares(column, *value, squares);
        }
        let mut least = [f32::INFINITY; NEAREST];
        for square in squares.iter() {
            if *square < least[NEAREST - 1] {
                let at = least.partition_point(|other| other <= square);
                least[at..].rotate_right(1);
                least[at] = *square;
            }
        }
        let last = least.iter().rev().find(|square| square.is_finite());
        last.copied().unwrap_or(0.0)
    }
}

/// A difference, none where a value is missing.
fn known(apart: f32) -> f32 {
    if apart.is_nan() { 0.0 } else { apart }
}
