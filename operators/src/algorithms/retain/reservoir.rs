//! Reservoir: the samples that one task keeps, of each class those with the lowest priority.

use std::collections::{BTreeMap, BinaryHeap};

use crate::data::{ClassRetained, RetainedSample, priority, sequence_of};

/// Class that a sample is kept in: that of its label. If the label is a number, `classes` is 0 and
/// all samples are in class 0.
pub fn class_of(label: f32, classes: usize) -> usize {
    (label as usize).min(classes.saturating_sub(1))
}

/// A task's labelled samples that are kept: an even draw of each class, balanced between classes.
///
/// Beyond its capacity, the class with the most samples gives up the one with the highest
/// [`priority`]. So each class keeps its samples up to an equal share of the capacity, and the
/// others divide what rarer classes leave free (max-min fairness). While the capacity stays the
/// same, the share of no class ever grows again, so that a sample given up is never missed.
///
/// ```
/// use perennial_operators::RetainedSample;
/// use perennial_operators::algorithms::retain::Reservoir;
///
/// let sample = |sequence: u64, label: f32| RetainedSample {
///     sequence,
///     time: 0,
///     label,
///     features: vec![20.0],
///     weight: 1.0,
/// };
/// // 100 samples of class 0 and 3 of class 1.
/// let candidates = (0..100).map(|sequence| sample(sequence, 0.0));
/// let candidates = candidates.chain((100..103).map(|sequence| sample(sequence, 1.0)));
///
/// // With a capacity of 10, the rare class keeps all its samples.
/// let mut reservoir = Reservoir::limited([None, None]);
/// let turnover = reservoir.update(candidates.collect(), &[100, 3], 10);
/// let rare = turnover.samples.iter().filter(|sample| sample.label == 1.0);
/// assert_eq!((reservoir.len(), rare.count()), (10, 3));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Reservoir {
    classes: Vec<Class>,
    kept: usize,
}

/// Samples of one class.
#[derive(Clone, Debug, Default)]
struct Class {
    /// Priorities of the samples kept; the highest is the first to go.
    kept: BinaryHeap<u64>,
    /// Number of samples seen.
    seen: u64,
    /// Highest priority that is admitted: of the samples seen, those up to it are kept and no
    /// others. None while all are kept.
    limit: Option<u64>,
}

impl Class {
    fn admits(&self, priority: u64) -> bool {
        self.limit.is_none_or(|limit| priority <= limit)
    }
}

/// Change of a reservoir in one epoch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Turnover {
    /// Samples added, by sequence number.
    pub samples: Vec<RetainedSample>,
    /// Sequence numbers of the samples dropped, ascending.
    pub dropped: Vec<u64>,
}

impl Reservoir {
    /// Restores a reservoir from the state of its classes and the samples that it keeps, each by
    /// class and sequence number.
    pub fn restore(
        classes: &[ClassRetained],
        samples: impl IntoIterator<Item = (usize, u64)>,
    ) -> Self {
        let mut reservoir = Reservoir::limited(classes.iter().map(|class| class.limit));
        for (class, known) in reservoir.classes.iter_mut().zip(classes) {
            class.seen = known.seen;
        }
        for (class, sequence) in samples {
            reservoir.put(class, priority(sequence));
        }
        reservoir
    }

    /// Creates an empty reservoir that admits no priority above its class's limit.
    pub fn limited(limits: impl IntoIterator<Item = Option<u64>>) -> Self {
        let class = |limit| Class {
            limit,
            ..Class::default()
        };
        Reservoir {
            classes: limits.into_iter().map(class).collect(),
            kept: 0,
        }
    }

    /// Number of samples kept.
    pub fn len(&self) -> usize {
        self.kept
    }

    /// Whether no samples are kept.
    pub fn is_empty(&self) -> bool {
        self.kept == 0
    }

    /// State of each class, by class number.
    pub fn standing(&self) -> Vec<ClassRetained> {
        let standing = |class: &Class| ClassRetained {
            seen: class.seen,
            limit: class.limit,
        };
        self.classes.iter().map(standing).collect()
    }

    /// Adds a sample if it stays within the capacity, and returns whether it does.
    ///
    /// Given a part of the samples of a larger reservoir, this finds all that may stay there.
    pub fn holds(&mut self, class: usize, priority: u64, capacity: usize) -> bool {
        if !self.class(class).admits(priority) {
            return false;
        }
        self.put(class, priority);
        if self.kept <= capacity {
            return true;
        }
        let Some((class, highest)) = self.give_up() else {
            return false;
        };
        self.classes[class].limit = highest.checked_sub(1);
        highest != priority
    }

    /// Adds an epoch's candidates, and drops samples beyond the capacity.
    ///
    /// `seen` is the number of labels of each class in the epoch, the candidates' included. The
    /// result does not depend on the order of the candidates.
    pub fn update(
        &mut self,
        candidates: Vec<RetainedSample>,
        seen: &[u64],
        capacity: usize,
    ) -> Turnover {
        for (class, seen) in seen.iter().enumerate() {
            self.class(class).seen += seen;
        }
        let mut samples = BTreeMap::new();
        for candidate in candidates {
            let class = class_of(candidate.label, self.classes.len());
            let priority = priority(candidate.sequence);
            if self.class(class).admits(priority) {
                self.put(class, priority);
                samples.insert(candidate.sequence, candidate);
            }
        }
        let mut dropped = Vec::new();
        while self.kept > capacity
            && let Some((_, highest)) = self.give_up()
        {
            let sequence = sequence_of(highest);
            if samples.remove(&sequence).is_none() {
                dropped.push(sequence);
            }
        }
        if self.kept == capacity {
            self.set_limits();
        }
        dropped.sort_unstable();
        Turnover {
            samples: samples.into_values().collect(),
            dropped,
        }
    }

    /// Limits each class that has dropped samples to the highest priority that it keeps, up to
    /// which it is complete.
    ///
    /// If the capacity ever grows, later samples then have no better chance than earlier ones. A
    /// class that keeps no samples has no limit.
    fn set_limits(&mut self) {
        for class in &mut self.classes {
            if class.seen > class.kept.len() as u64 {
                class.limit = class.kept.peek().copied();
            }
        }
    }

    /// The class of this number, added if it is new.
    fn class(&mut self, class: usize) -> &mut Class {
        if class >= self.classes.len() {
            self.classes.resize_with(class + 1, Class::default);
        }
        &mut self.classes[class]
    }

    /// Keeps a sample.
    fn put(&mut self, class: usize, priority: u64) {
        self.class(class).kept.push(priority);
        self.kept += 1;
    }

    /// Drops the highest priority of the largest class, the last of equals; returns class and
    /// priority.
    fn give_up(&mut self) -> Option<(usize, u64)> {
        let classes = self.classes.iter_mut().enumerate();
        let (number, largest) = classes.max_by_key(|(_, class)| class.kept.len())?;
        let highest = largest.kept.pop()?;
        self.kept -= 1;
        Some((number, highest))
    }
}
