//! What one task keeps of its past: of each class the samples of lowest priority.

use std::collections::{BTreeMap, BinaryHeap};

use crate::data::{ClassRetained, RetainedSample, priority, sequence_of};

/// The class that a sample is kept in: all are of one where labels are not numbers of classes.
pub fn class_of(label: f32, classes: usize) -> usize {
    (label as usize).min(classes.saturating_sub(1))
}

/// Room for the samples of one task.
///
/// Where they are more than it may keep, the class of which it keeps the most gives one up, the one of
/// highest priority. So each class keeps what it has up to an equal share of the room, and what rarer classes
/// leave free is shared by the others (max-min fairness). As samples come in, no class's share ever grows again while
/// the room stays as it is: what was given up is never missed.
#[derive(Clone, Debug, Default)]
pub struct Reservoir {
    classes: Vec<Class>,
    kept: usize,
}

#[derive(Clone, Debug, Default)]
struct Class {
    /// Priorities, the highest first to go.
    kept: BinaryHeap<u64>,
    seen: u64,
    /// Of the samples seen, those up to this priority are kept and no others; none while that is so of all.
    limit: Option<u64>,
}

impl Class {
    fn admits(&self, priority: u64) -> bool {
        self.limit.is_none_or(|limit| priority <= limit)
    }
}

/// What an epoch changes in a reservoir.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Turnover {
    /// Samples that come in, by sequence number.
    pub samples: Vec<RetainedSample>,
    /// Sequence numbers of those that leave.
    pub dropped: Vec<u64>,
}

impl Reservoir {
    /// The reservoir of a task with the samples that it keeps: class and sequence number of each.
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

    /// An empty one that takes in nothing above the limits of the classes.
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

    /// How many samples it keeps.
    pub fn len(&self) -> usize {
        self.kept
    }

    /// Whether it keeps none.
    pub fn is_empty(&self) -> bool {
        self.kept == 0
    }

    /// How it stands, class by class.
    pub fn standing(&self) -> Vec<ClassRetained> {
        let standing = |class: &Class| ClassRetained {
            seen: class.seen,
            limit: class.limit,
        };
        self.classes.iter().map(standing).collect()
    }

    /// Whether a sample would stay if no more came, in which case it does. Of some that belong to a larger
    /// reservoir this finds all that can stay there.
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

    /// Takes in an epoch's candidates and gives up what there is no room for; `seen` is how many labels of each class
    /// came, those of the candidates among them. The outcome does not depend on the order of the candidates.
    pub fn turn_over(
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

    /// A class of which samples are missing is complete up to the highest priority that it keeps. Should there be more
    /// room one day, what comes then must not have a better chance than what came before. A class that keeps none begins
    /// anew.
    fn set_limits(&mut self) {
        for class in &mut self.classes {
            if class.seen > class.kept.len() as u64 {
                class.limit = class.kept.peek().copied();
            }
        }
    }

    fn class(&mut self, class: usize) -> &mut Class {
        if class >= self.classes.len() {
            self.classes.resize_with(class + 1, Class::default);
        }
        &mut self.classes[class]
    }

    fn put(&mut self, class: usize, priority: u64) {
        self.class(class).kept.push(priority);
        self.kept += 1;
    }

    /// The highest priority of the largest class, the last of equals.
    fn give_up(&mut self) -> Option<(usize, u64)> {
        let classes = self.classes.iter_mut().enumerate();
        let (number, largest) = classes.max_by_key(|(_, class)| class.kept.len())?;
        let highest = largest.kept.pop()?;
        self.kept -= 1;
        Some((number, highest))
    }
}
