//! Regions: unseen tasks by features, where attributes tell nothing.
//!
//! Samples that look like none of known tasks are remembered, the latest. Where some of them lie close together there is a
//! region, around their mean; what comes within it from then on is of an unseen task, and goes the way of all unseen tasks.
//! This is the leader algorithm (Hartigan 1975, "Clustering Algorithms", ch. 3) in the metric of
//! [recognition](crate::algorithms::recognize::reference), with the radius that holds known samples around their own centres.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::algorithms::recognize::{Reference, Scratch};
use crate::data::{TaskDefinition, TaskId, TaskPath};

/// Outlier samples that are remembered, the latest.
const MOST_STRANGE: usize = 64;
/// Of one epoch at most.
pub(crate) const MAX_OUTLIERS_PER_EPOCH: usize = 16;
/// So many of them make a region.
const LEAST_SAMPLES: usize = 8;
/// Regions at most whose samples are of no known task.
const MOST_OPEN: usize = 16;
/// Two samples that lie around one centre are twice as far from each other, squared, as from it.
const APART: f32 = 2.0;

/// A part of the space of features whose samples are of one task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Region {
    /// The task that its samples are of.
    pub path: TaskPath,
    /// Its centre; NaN = unknown.
    pub centre: Vec<f32>,
    /// Whether that task is unseen.
    pub open: bool,
}

/// A sample that looks like none of known tasks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outlier {
    /// Its sequence number.
    pub sequence: u64,
    /// Its features; NaN = missing.
    pub features: Vec<f32>,
}

/// All regions, and where there may be others.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Regions {
    /// How many were ever found.
    found: u64,
    /// Those that there are.
    pub regions: Arc<Vec<Region>>,
    /// Outlier samples in none of them, the latest last.
    strange: Vec<Outlier>,
}

impl Regions {
    /// Takes in strange samples of an epoch.
    pub(crate) fn meet(&mut self, mut strange: Vec<Outlier>) {
        strange.sort_unstable_by_key(|sample| crate::data::priority(sample.sequence));
        strange.truncate(MAX_OUTLIERS_PER_EPOCH);
        strange.sort_unstable_by_key(|sample| sample.sequence);
        self.strange.extend(strange);
        let over = self.strange.len().saturating_sub(MOST_STRANGE);
        self.strange.drain(..over);
    }

    /// Makes a region of strange samples that lie close together, if there are any: the task that it is of, the sequence
    /// number of its first sample, and how many there were.
    pub(crate) fn find(
        &mut self,
        reference: &Reference,
        radius: f32,
    ) -> Option<(TaskPath, u64, u64)> {
        let open = self.regions.iter().filter(|region| region.open);
        if self.strange.len() < LEAST_SAMPLES || open.count() >= MOST_OPEN {
            return None;
        }
        let mut scratch = Scratch::default();
        let mut near = |one: &Outlier| -> Vec<usize> {
            let others = self.strange.iter().enumerate();
            let is_near = |other: &Outlier| {
                let apart = reference.apart(&one.features, &other.features, &mut scratch);
                apart <= APART * radius
            };
            let mut is_near = is_near;
            others
                .filter(|(_, other)| is_near(other))
                .map(|(at, _)| at)
                .collect()
        };
        let members: Vec<Vec<usize>> = self.strange.iter().map(&mut near).collect();
        let members = members.into_iter().rev().max_by_key(Vec::len)?;
        if members.len() < LEAST_SAMPLES {
            return None;
        }
        let first = members.iter().map(|at| self.strange[*at].sequence).min()?;
        let centre = mean(
            members
                .iter()
                .map(|at| self.strange[*at].features.as_slice()),
        );
        // Samples at the edge of a known task on all sides lie around its own centre.
        let near = reference.nearness(&centre, false, &mut Scratch::default());
        if near.density <= radius {
            return None;
        }
        let mut at = 0;
        self.strange.retain(|_| {
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

    /// The tasks of regions that are no more, and never were anything.
    pub fn dissolved(&self) -> impl Iterator<Item = TaskId> {
        let all = (1..=self.found).map(|number| path(number).leaf().task);
        let is_left = |task: &TaskId| {
            let mut left = self.regions.iter();
            left.any(|region| region.path.leaf().task == *task)
        };
        all.filter(move |task| !is_left(task))
    }

    /// The unseen tasks whose regions look like known ones by now.
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

    /// What an unseen task is was found: that of a region perhaps, whose samples are of this task from then on, or which is
    /// no more. Whether there is one.
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

/// The task of a region: below the base task, whatever the attributes say.
fn path(number: u64) -> TaskPath {
    let base = TaskDefinition::base();
    let own = base.child(&[("features".to_string(), format!("unseen-{number}"))]);
    TaskPath {
        nodes: vec![base, own],
    }
}

/// The mean of some samples, feature by feature, of those that have it.
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
        let noise = |at: u64| (crate::data::priority(at) as f32 / u64::MAX as f32 - 0.5) * 3.4;
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

    fn strange(sequence: u64, x: f32, y: f32) -> Outlier {
        Outlier {
            sequence,
            features: vec![x, y],
        }
    }

    #[test]
    fn what_lies_close_together_is_a_region() {
        let (reference, radius) = (reference(), 4.0);
        let mut regions = Regions::default();
        // Stray ones make none, however many.
        regions.meet(
            (0..16)
                .map(|at| strange(at, 40.0 * at as f32, 90.0))
                .collect(),
        );
        assert_eq!(regions.find(&reference, radius), None);
        // Nor do those around a known centre.
        let mut around = Regions::default();
        let ring = |at: u64| (at as f32 * 0.7).sin_cos();
        around.meet(
            (0..16)
                .map(|at| strange(at, 3.0 * ring(at).0, 3.0 * ring(at).1))
                .collect(),
        );
        assert_eq!(around.find(&reference, radius), None);
        let close = |at: u64| strange(100 + at, 4.0 + 0.1 * at as f32, -30.0);
        regions.meet((0..9).map(close).collect());
        let (path, first, samples) = regions.find(&reference, radius).expect("a region");
        assert_eq!((first, samples), (100, 9));
        assert_eq!(&*path.leaf().name, "features=unseen-1");
        let centre = &regions.regions[0].centre;
        assert!((centre[0] - 4.4).abs() < 1e-5 && centre[1] == -30.0);
        assert_eq!(regions.find(&reference, radius), None);
        assert!(regions.known(&reference, radius).is_empty());
        // What it becomes.
        let task = path.leaf().clone();
        assert!(regions.settle(&task, Some(&task)));
        assert!(!regions.regions[0].open && !regions.settle(&task, None));
    }

    #[test]
    fn a_region_that_looks_known_is_told() {
        let reference = reference();
        let mut regions = Regions::default();
        regions.meet((0..8).map(|at| strange(at, 4.5, 6.0)).collect());
        let (path, ..) = regions.find(&reference, 4.0).expect("a region");
        assert!(regions.known(&reference, 4.0).is_empty());
        assert_eq!(regions.known(&reference, 1000.0), [path.leaf().clone()]);
        assert_eq!(regions.dissolved().count(), 0);
        assert!(regions.settle(path.leaf(), None) && regions.regions.is_empty());
        assert_eq!(regions.dissolved().collect::<Vec<_>>(), [path.leaf().task]);
    }
}
