//! Reference: where samples of known tasks lie in the space of features.
//!
//! A sample is near known tasks if it is near the centre of one of them, in units of how samples
//! are spread around their centres. That is the Mahalanobis distance with one covariance for all
//! tasks, as in Lee et al. 2018, "A simple unified framework for detecting out-of-distribution
//! samples and adversarial attacks", §2.1. The covariance is shrunk as in Ledoit & Wolf 2004, "A
//! well-conditioned estimator for large-dimensional covariance matrices", §3.3, so that it can be
//! inverted even with few samples of many features. Or a sample is near known tasks if it is near
//! some of their samples, whatever the shape of their cloud.

use std::sync::Arc;

use nalgebra::DMatrix;
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use crate::algorithms::distance::add_squares;
use crate::algorithms::usual::{Spread, UsualRange};
use crate::data::TaskId;

/// Most tasks with a centre: those with the most samples.
const MOST_CENTRES: usize = 64;
/// Least number of samples of a task with a centre of its own.
const LEAST_OF_TASK: usize = 20;
/// Most samples that are kept to find nearest ones.
const MOST_SAMPLES: usize = 256;
/// Rounds in which the values of missing features are improved.
const SWEEPS: usize = 4;
/// Number of nearest samples: the distance is that of the farthest of them.
const NEAREST: usize = 3;
/// Most standard deviations from the mean that a value counts as: squares stay finite.
const FARTHEST: f32 = 1e6;

/// Reference of samples of known tasks. All values are in standard deviations of features.
///
/// ```
/// use perennial_operators::TaskId;
/// use perennial_operators::algorithms::recognize::{Reference, ReferenceSample, Scratch};
///
/// // Known samples of one task, with two features from 0 to 9.
/// let features: Vec<[f32; 2]> = (0..100)
///     .map(|at| [(at % 10) as f32, (at / 10) as f32])
///     .collect();
/// let samples: Vec<ReferenceSample<'_>> = features
///     .iter()
///     .map(|features| ReferenceSample { task: TaskId(1), features })
///     .collect();
/// let reference = Reference::of(&samples, |_| None).unwrap();
///
/// let mut scratch = Scratch::default();
/// let usual = reference.nearness(&[4.0, 5.0], true, &mut scratch);
/// let outlier = reference.nearness(&[40.0, 5.0], true, &mut scratch);
/// assert!(usual.density < 1.0 && outlier.density > 10.0);
/// assert!(usual.nearest < 1.0 && outlier.nearest > 10.0);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reference {
    /// Mean of each feature, in its unit.
    means: Vec<f32>,
    /// Inverse of each feature's standard deviation; 0 for a feature that does not vary.
    scales: Vec<f32>,
    /// Tasks with centres.
    pub tasks: Vec<KnownTask>,
    /// Centres, tasks × features.
    centres: Vec<f32>,
    /// Inverse covariance of samples around their centres, features × features.
    precision: Vec<f32>,
    /// Shrinkage of the covariance, 0 to 1: share that independent features of equal variance have
    /// in it.
    pub shrinkage: f32,
    /// Samples, features × samples; missing values are at the mean.
    samples: Vec<f32>,
}

/// A known task that samples are compared with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownTask {
    /// The task.
    pub task: TaskId,
    /// Its name, for logs and tables.
    pub name: Arc<str>,
}

/// A known sample that a reference is made of.
#[derive(Clone, Copy, Debug)]
pub struct ReferenceSample<'a> {
    /// Finest task of the sample.
    pub task: TaskId,
    /// Feature values; NaN = missing.
    pub features: &'a [f32],
}

/// Distances of a sample from known tasks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Nearness {
    /// Squared Mahalanobis distance to the nearest centre, by the number of the sample's features.
    pub density: f32,
    /// Mean squared distance of its features to the third nearest known sample; NaN if not
    /// requested.
    pub nearest: f32,
    /// Index of the task with the nearest centre.
    pub task: usize,
}

/// Scratch memory, reused from sample to sample.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    features: Vec<f32>,
    differences: Vec<f32>,
    squares: Vec<f32>,
}

impl Reference {
    /// Builds the reference of some samples; none if there are none.
    ///
    /// Nearest samples are sought among the first of them. `name` returns the name of a task.
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
        let usual = reference.scale(samples);
        // One unusual value would decide the covariance, so it counts as missing.
        let or_missing = |((value, scaled), usual): ((&f32, f32), &UsualRange)| {
            if usual.contains(*value) {
                scaled
            } else {
                f32::NAN
            }
        };
        let scaled: Vec<Vec<f32>> = samples
            .iter()
            .map(|sample| {
                let scaled = reference.scaled(sample.features);
                let pairs = sample.features.iter().zip(scaled).zip(&usual);
                pairs.map(or_missing).collect()
            })
            .collect();
        let centre_of = reference.add_centres(samples, &scaled, name);
        reference.add_precision(&scaled, &centre_of);
        let held = &scaled[..scaled.len().min(MOST_SAMPLES)];
        for feature in 0..width {
            reference
                .samples
                .extend(held.iter().map(|sample| or_zero(sample[feature])));
        }
        Some(reference)
    }

    /// Computes means and standard deviations of features, of their usual values, and returns the
    /// ranges of these.
    fn scale(&mut self, samples: &[ReferenceSample<'_>]) -> Vec<UsualRange> {
        let scales = self.means.iter_mut().zip(&mut self.scales).enumerate();
        scales
            .map(|(feature, (mean, scale))| {
                let values = || samples.iter().map(|sample| (sample.features[feature], 1.0));
                let spread = Spread::of(values);
                *mean = spread.mean as f32;
                *scale = match spread.varies_by() {
                    0.0 => 0.0,
                    deviation => deviation.recip() as f32,
                };
                spread.usual
            })
            .collect()
    }

    /// Converts features into standard deviations from the mean; NaN = missing.
    fn scaled(&self, features: &[f32]) -> impl Iterator<Item = f32> {
        let known = features.iter().zip(&self.means).zip(&self.scales);
        known.map(|((value, mean), scale)| ((value - mean) * scale).clamp(-FARTHEST, FARTHEST))
    }

    /// Computes the centres of tasks, and returns the index of each sample's task among them.
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
            // No task has enough samples: all samples share one centre.
            counts.push((samples.len(), TaskId::BASE));
        }
        let is_one = counts.len() == 1 && counts[0].1 == TaskId::BASE;
        let index_of = |task: TaskId| {
            if is_one {
                Some(0)
            } else {
                counts.iter().position(|(_, known)| *known == task)
            }
        };
        let centre_of: Vec<Option<usize>> = samples.iter().map(|one| index_of(one.task)).collect();
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

    /// Computes the inverse of the shrunk covariance of samples around their centres.
    fn add_precision(&mut self, scaled: &[Vec<f32>], centre_of: &[Option<usize>]) {
        let width = self.means.len();
        let differences: Vec<Vec<f64>> = scaled
            .iter()
            .zip(centre_of)
            .filter_map(|(sample, centre)| {
                let centre = &self.centres[(*centre)? * width..][..width];
                let pairs = sample.iter().zip(centre);
                Some(
                    pairs
                        .map(|(value, at)| f64::from(or_zero(value - at)))
                        .collect(),
                )
            })
            .collect();
        let count = differences.len().max(1) as f64;
        let mut covariance = DMatrix::<f64>::zeros(width, width);
        let mut fourth = 0.0;
        for sample in &differences {
            fourth += sample.iter().map(|part| part * part).sum::<f64>().powi(2);
            for (row, one) in sample.iter().enumerate() {
                for (column, other) in sample.iter().enumerate() {
                    covariance[(row, column)] += one * other / count;
                }
            }
        }
        // m, d² and b̄² of Ledoit & Wolf, each by the number of features.
        let features = width.max(1) as f64;
        let mean = covariance.trace() / features;
        let norm = covariance.norm_squared();
        let far = norm / features - mean * mean;
        let error = (fourth / count - norm) / count / features;
        let shrinkage = if far > 0.0 {
            (error / far).clamp(0.0, 1.0)
        } else {
            1.0
        };
        self.shrinkage = shrinkage as f32;
        // A feature that does not vary, or only together with others, still gets a little variance.
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

    /// Distances of a sample from known tasks. With `among_samples`, also from their nearest
    /// samples, which costs most. Missing features do not count.
    pub fn nearness(
        &self,
        features: &[f32],
        among_samples: bool,
        scratch: &mut Scratch,
    ) -> Nearness {
        let Scratch {
            features: scaled,
            differences,
            squares,
        } = scratch;
        scaled.clear();
        scaled.extend(self.scaled(features));
        let known = scaled.iter().filter(|value| !value.is_nan()).count().max(1) as f32;
        let task = self.nearest_centre(scaled);
        let width = scaled.len();
        differences.clear();
        let centre = &self.centres[task * width..][..width];
        differences.extend(
            scaled
                .iter()
                .zip(centre)
                .map(|(value, at)| or_zero(value - at)),
        );
        let density = self.density(scaled, differences);
        Nearness {
            density: density / known,
            nearest: if among_samples {
                self.nearest_samples(scaled, squares) / known
            } else {
                f32::NAN
            },
            task,
        }
    }

    /// Squared Mahalanobis distance of two samples, by the number of features that both have.
    pub fn distance(&self, one: &[f32], other: &[f32], scratch: &mut Scratch) -> f32 {
        let Scratch {
            features,
            differences,
            ..
        } = scratch;
        features.clear();
        features.extend(
            self.scaled(one)
                .zip(self.scaled(other))
                .map(|(one, other)| one - other),
        );
        let known = features
            .iter()
            .filter(|value| !value.is_nan())
            .count()
            .max(1) as f32;
        differences.clear();
        differences.extend(features.iter().map(|value| or_zero(*value)));
        self.density(features, differences) / known
    }

    /// Squared Mahalanobis distance over the features of `scaled` that are known, given the
    /// sample's differences from a centre: the least over all values that the missing features
    /// could have, found feature by feature.
    fn density(&self, scaled: &[f32], differences: &mut [f32]) -> f32 {
        let width = differences.len().max(1);
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
                    differences[feature] -= dot(row, differences) / row[feature];
                }
            }
        }
        let rows = self.precision.chunks_exact(width).zip(&*differences);
        rows.map(|(row, difference)| difference * dot(row, differences))
            .sum()
    }

    /// Index of the nearest centre, in standard deviations of features.
    fn nearest_centre(&self, scaled: &[f32]) -> usize {
        let mut nearest = (0, f32::INFINITY);
        let centres = self.centres.chunks_exact(scaled.len().max(1));
        for (place, centre) in centres.enumerate() {
            let pairs = scaled.iter().zip(centre);
            let distance: f32 = pairs.map(|(value, at)| or_zero(value - at).powi(2)).sum();
            if distance < nearest.1 {
                nearest = (place, distance);
            }
        }
        nearest.0
    }

    /// Squared distance of the mean of some samples from the centre of each task that has one, in
    /// standard deviations of features.
    pub(crate) fn distances<'a>(
        &self,
        samples: impl Iterator<Item = &'a [f32]>,
    ) -> FxHashMap<TaskId, f32> {
        let width = self.means.len();
        let mut sums = vec![(0.0_f32, 0.0_f32); width];
        for sample in samples {
            for ((sum, count), value) in sums.iter_mut().zip(self.scaled(sample)) {
                if !value.is_nan() {
                    *sum += value;
                    *count += 1.0;
                }
            }
        }
        let centres = self.centres.chunks_exact(width.max(1));
        let distance = |centre: &[f32]| -> f32 {
            let pairs = sums.iter().zip(centre);
            // A feature that all samples miss has the mean 0/0, and does not count.
            pairs
                .map(|((sum, count), at)| or_zero(sum / count - at).powi(2))
                .sum()
        };
        let tasks = self.tasks.iter().zip(centres);
        tasks
            .map(|(known, centre)| (known.task, distance(centre)))
            .collect()
    }

    /// Squared distance to the last of the [`NEAREST`] samples.
    fn nearest_samples(&self, scaled: &[f32], squares: &mut Vec<f32>) -> f32 {
        let held = self.samples.len() / scaled.len().max(1);
        squares.clear();
        squares.resize(held, 0.0);
        for (column, value) in self.samples.chunks_exact(held.max(1)).zip(scaled) {
            add_squares(column, *value, 1.0, squares);
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

/// The difference; 0 if a value is missing.
fn or_zero(difference: f32) -> f32 {
    if difference.is_nan() { 0.0 } else { difference }
}
