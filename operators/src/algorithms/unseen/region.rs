//! Regions: unseen tasks by features, where attributes do not distinguish them.
//!
//! The latest outliers, samples far from all known tasks, are kept. Where enough of them lie close
//! together, a region is opened around their mean. Later samples within it are of an unseen task,
//! which is treated like all unseen tasks. This is the leader algorithm (Hartigan 1975, "Clustering
//! Algorithms", ch. 3) in the metric of the [reference](crate::algorithms::recognize::Reference),
//! with the radius that holds known samples around their own centres.

use std::sync::Arc;

use rustc_hash::FxHashSet;
use serde::{Deserialize, Serialize};

use crate::algorithms::recognize::{Reference, Scratch};
use crate::data::{Erasure, TaskDefinition, TaskId, TaskPath, priority};

/// Most outliers that are kept: the latest.
const MOST_OUTLIERS: usize = 64;
/// Most outliers of one epoch.
pub(crate) const MAX_OUTLIERS_PER_EPOCH: usize = 16;
/// Number of outliers close together that open a region.
const LEAST_SAMPLES: usize = 8;
/// Most regions open at a time.
const MOST_OPEN: usize = 16;
/// Most regions, open or of a task: every sample is compared with all of them.
const MOST_REGIONS: usize = 256;
/// Number of regions, the latest opened, that are remembered after they were closed: samples that
/// wait for their labels may be of them.
pub(crate) const REMEMBERED: usize = 1024;
/// Expected squared distance of two samples around one centre, as a multiple of that from the
/// centre.
const PAIR: f32 = 2.0;

/// A region of the space of features whose samples are of one task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Region {
    /// Path to the task of its samples: the base task, then the task itself.
    pub path: TaskPath,
    /// Centre, one value a feature, in the features' units; NaN = unknown.
    pub centre: Vec<f32>,
    /// Whether its task is still unseen.
    pub open: bool,
}

/// A sample that is far from all known tasks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outlier {
    /// Sequence number.
    pub sequence: u64,
    /// Feature values; NaN = missing.
    pub features: Vec<f32>,
}

/// All regions, and the outliers in none of them.
///
/// ```
/// use perennial_operators::TaskId;
/// use perennial_operators::algorithms::recognize::{Reference, ReferenceSample};
/// use perennial_operators::algorithms::unseen::{Outlier, Regions};
///
/// // Known samples lie from -3 to 3; nine outliers lie together around 50.
/// let known: Vec<[f32; 1]> = (0..200).map(|at| [(at % 7) as f32 - 3.0]).collect();
/// let sample = |features| ReferenceSample { task: TaskId(1), features };
/// let known: Vec<_> = known.iter().map(|features| sample(features)).collect();
/// let reference = Reference::of(&known, |_| None).unwrap();
/// let outlier = |at: u64| Outlier { sequence: at, features: vec![50.0 + 0.1 * at as f32] };
/// let mut regions = Regions::default();
/// regions.add_outliers((0..9).map(outlier).collect());
/// let (_, first, samples) = regions.open(&reference, 4.0).unwrap();
/// assert_eq!((first, samples), (0, 9));
/// assert!((regions.regions[0].centre[0] - 50.4).abs() < 1e-4);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Regions {
    /// Number of regions ever opened.
    found: u64,
    /// Present regions.
    pub regions: Arc<Vec<Region>>,
    /// Outliers in no region, the latest last.
    #[serde(rename = "strange")]
    outliers: Vec<Outlier>,
}

impl Regions {
    /// Adds an even draw of an epoch's outliers.
    pub fn add_outliers(&mut self, mut outliers: Vec<Outlier>) {
        outliers.sort_unstable_by_key(|sample| priority(sample.sequence));
        outliers.truncate(MAX_OUTLIERS_PER_EPOCH);
        outliers.sort_unstable_by_key(|sample| sample.sequence);
        self.outliers.extend(outliers);
        let over = self.outliers.len().saturating_sub(MOST_OUTLIERS);
        self.outliers.drain(..over);
    }

    /// Forgets the regions of some tasks, and all outliers: of which task an outlier is, is not
    /// known.
    pub fn forget(&mut self, erasure: &Erasure) {
        self.outliers.clear();
        Arc::make_mut(&mut self.regions).retain(|region| !erasure.covers_path(&region.path.nodes));
    }

    /// Opens a region where enough outliers lie close together, if there is such a place. Returns
    /// the path to its task, the sequence number of its first sample, and the number of its
    /// samples.
    pub fn open(&mut self, reference: &Reference, radius: f32) -> Option<(TaskPath, u64, u64)> {
        let open = self.regions.iter().filter(|region| region.open);
        let has_room = open.count() < MOST_OPEN && self.regions.len() < MOST_REGIONS;
        if self.outliers.len() < LEAST_SAMPLES || !has_room {
            return None;
        }
        let mut scratch = Scratch::default();
        let near = |one: &Outlier| -> Vec<usize> {
            let others = self.outliers.iter().enumerate();
            let near = others.filter(|(_, other)| {
                reference.distance(&one.features, &other.features, &mut scratch) <= PAIR * radius
            });
            near.map(|(at, _)| at).collect()
        };
        let neighbourhoods: Vec<Vec<usize>> = self.outliers.iter().map(near).collect();
        let members = neighbourhoods.into_iter().rev().max_by_key(Vec::len)?;
        if members.len() < LEAST_SAMPLES {
            return None;
        }
        let first = members.iter().map(|at| self.outliers[*at].sequence).min()?;
        let centre = mean(
            members
                .iter()
                .map(|at| self.outliers[*at].features.as_slice()),
        );
        // Outliers on all sides of a known task have their mean at its centre: they are no region.
        let near = reference.nearness(&centre, false, &mut Scratch::default());
        if near.density <= radius {
            return None;
        }
        let mut at = 0;
        self.outliers.retain(|_| {
            at += 1;
            !members.contains(&(at - 1))
        });
        self.found += 1;
        let path = path(self.found);
        Arc::make_mut(&mut self.regions).push(Region {
            path: path.clone(),
            centre,
            open: true,
        });
        Some((path, first, members.len() as u64))
    }

    /// Tasks of the latest opened regions, at most `REMEMBERED`, oldest first, each with whether
    /// no present region is of it any more: its region was closed, or is of another task.
    pub fn latest(&self) -> impl Iterator<Item = (TaskId, bool)> {
        let present: FxHashSet<TaskId> = self.present().collect();
        let first = self.found.saturating_sub(REMEMBERED as u64) + 1;
        let latest = (first..=self.found).map(|number| path(number).leaf().task);
        latest.map(move |task| (task, !present.contains(&task)))
    }

    /// Tasks of the present regions.
    pub fn present(&self) -> impl Iterator<Item = TaskId> {
        self.regions.iter().map(|region| region.path.leaf().task)
    }

    /// Unseen tasks whose regions are near known tasks by now.
    pub(crate) fn known(&self, reference: &Reference, radius: f32) -> Vec<TaskDefinition> {
        let mut scratch = Scratch::default();
        let mut is_known = |region: &&Region| {
            region.open
                && reference
                    .nearness(&region.centre, false, &mut scratch)
                    .density
                    <= radius
        };
        let known = self.regions.iter().filter(|region| is_known(region));
        known.map(|region| region.path.leaf().clone()).collect()
    }

    /// Settles the open region of an unseen task: its samples are of the task `became` from now on;
    /// without one, the region is closed. Returns whether there was such a region.
    pub(crate) fn settle(
        &mut self,
        task: &TaskDefinition,
        became: Option<&TaskDefinition>,
    ) -> bool {
        let is_its = |region: &Region| region.open && region.path.leaf().task == task.task;
        if !self.regions.iter().any(is_its) {
            return false;
        }
        let regions = Arc::make_mut(&mut self.regions);
        match became {
            None => regions.retain(|region| !is_its(region)),
            Some(became) => {
                for region in regions.iter_mut().filter(|region| is_its(region)) {
                    region.open = false;
                    region.path.nodes.pop();
                    region.path.nodes.push(became.clone());
                }
            }
        }
        true
    }
}

/// Path to the task of a region: it is below the base task, whatever the samples' attributes.
fn path(number: u64) -> TaskPath {
    let base = TaskDefinition::base();
    let own = base.child(&[("features".to_string(), format!("unseen-{number}"))]);
    TaskPath {
        nodes: vec![base, own],
    }
}

/// Mean of some samples, feature by feature, over the samples that have the feature.
fn mean<'a>(samples: impl Iterator<Item = &'a [f32]>) -> Vec<f32> {
    let mut sums: Vec<(f64, f64)> = Vec::new();
    for sample in samples {
        sums.resize(sample.len(), (0.0, 0.0));
        for ((sum, count), value) in sums.iter_mut().zip(sample) {
            if !value.is_nan() {
                *sum += f64::from(*value);
                *count += 1.0;
            }
        }
    }
    sums.iter()
        .map(|(sum, count)| (sum / count) as f32)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algorithms::recognize::ReferenceSample;

    /// Known samples lie around (0, 0) and (9, 0), with a deviation of about 1.
    fn reference() -> Reference {
        let noise = |at: u64| (priority(at) as f32 / u64::MAX as f32 - 0.5) * 3.4;
        let samples: Vec<(TaskId, [f32; 2])> = (0..400)
            .map(|at| {
                let task = at % 2;
                let x = 9.0 * task as f32 + noise(2 * at);
                (TaskId(1 + task), [x, noise(2 * at + 1)])
            })
            .collect();
        let samples: Vec<ReferenceSample<'_>> = samples
            .iter()
            .map(|(task, features)| ReferenceSample {
                task: *task,
                features,
            })
            .collect();
        Reference::of(&samples, |_| None).expect("samples")
    }

    fn outlier(sequence: u64, x: f32, y: f32) -> Outlier {
        Outlier {
            sequence,
            features: vec![x, y],
        }
    }

    #[test]
    fn outliers_close_together_open_a_region() {
        let (reference, radius) = (reference(), 4.0);
        let mut regions = Regions::default();
        // Scattered outliers open none, however many.
        regions.add_outliers(
            (0..16)
                .map(|at| outlier(at, 40.0 * at as f32, 90.0))
                .collect(),
        );
        assert_eq!(regions.open(&reference, radius), None);
        // Nor do outliers around a known centre.
        let mut around = Regions::default();
        let ring = |at: u64| (at as f32 * 0.7).sin_cos();
        around.add_outliers(
            (0..16)
                .map(|at| outlier(at, 3.0 * ring(at).0, 3.0 * ring(at).1))
                .collect(),
        );
        assert_eq!(around.open(&reference, radius), None);
        let close = |at: u64| outlier(100 + at, 4.0 + 0.1 * at as f32, -30.0);
        regions.add_outliers((0..9).map(close).collect());
        let (path, first, samples) = regions.open(&reference, radius).expect("a region");
        assert_eq!((first, samples), (100, 9));
        assert_eq!(&*path.leaf().name, "features=unseen-1");
        let centre = &regions.regions[0].centre;
        assert!((centre[0] - 4.4).abs() < 1e-5 && centre[1] == -30.0);
        assert_eq!(regions.open(&reference, radius), None);
        assert!(regions.known(&reference, radius).is_empty());
        // Settled, it is not open any more.
        let task = path.leaf().clone();
        assert!(regions.settle(&task, Some(&task)));
        assert!(!regions.regions[0].open && !regions.settle(&task, None));
    }

    #[test]
    fn a_region_near_known_tasks_is_found() {
        let reference = reference();
        let mut regions = Regions::default();
        regions.add_outliers((0..8).map(|at| outlier(at, 4.5, 6.0)).collect());
        let (path, ..) = regions.open(&reference, 4.0).expect("a region");
        assert!(regions.known(&reference, 4.0).is_empty());
        assert_eq!(regions.known(&reference, 1000.0), [path.leaf().clone()]);
        let task = path.leaf().task;
        assert_eq!(regions.latest().collect::<Vec<_>>(), [(task, false)]);
        assert!(regions.settle(path.leaf(), None) && regions.regions.is_empty());
        assert_eq!(regions.latest().collect::<Vec<_>>(), [(task, true)]);
    }

    #[test]
    fn regions_of_years_are_bounded() {
        let (reference, mut regions) = (reference(), Regions::default());
        let open = |regions: &mut Regions, number: u64| {
            let x = 50.0 * number as f32;
            regions.add_outliers((0..8).map(|at| outlier(8 * number + at, x, 90.0)).collect());
            regions.open(&reference, 4.0)
        };
        // Most are closed, and the first one is not.
        let (first, ..) = open(&mut regions, 0).expect("a region");
        let most = REMEMBERED as u64;
        for number in 1..=most + 20 {
            let (path, ..) = open(&mut regions, number).expect("a region");
            assert!(regions.settle(path.leaf(), None));
        }
        let latest: Vec<(TaskId, bool)> = regions.latest().collect();
        assert_eq!(latest.len(), REMEMBERED);
        assert!(latest.iter().all(|(_, is_closed)| *is_closed));
        assert_eq!(latest[REMEMBERED - 1].0, path(most + 21).leaf().task);
        assert_eq!(regions.present().collect::<Vec<_>>(), [first.leaf().task]);
        // Those that became tasks stay, and leave no room for ever more.
        for number in 1..MOST_REGIONS as u64 {
            let (path, ..) = open(&mut regions, number).expect("a region");
            assert!(regions.settle(path.leaf(), Some(path.leaf())));
        }
        assert_eq!(open(&mut regions, 0), None);
        assert_eq!(regions.regions.len(), MOST_REGIONS);
    }
}
