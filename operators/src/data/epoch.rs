//! The timestamp of the dataflow: the unit of commit and of replay.

use differential_dataflow::lattice::Lattice;
use serde::{Deserialize, Serialize};
use timely::order::{PartialOrder, TotalOrder};
use timely::progress::timestamp::Refines;
use timely::progress::{PathSummary, Timestamp};

/// One step of the stream. Epochs are totally ordered and start at zero.
///
/// ```
/// use perennial_operators::Epoch;
///
/// assert!(Epoch(3) < Epoch(4));
/// assert_eq!(Epoch(3).next(), Epoch(4));
/// ```
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The epoch that follows this one.
    #[must_use]
    pub fn next(self) -> Self {
        Epoch(self.0 + 1)
    }
}

impl std::fmt::Display for Epoch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Number of epochs that a path through the dataflow adds: 1 over a feedback edge and from an
/// order of training to its outcome, 0 everywhere else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochsLater(pub u64);

impl PartialOrder for Epoch {
    fn less_equal(&self, other: &Self) -> bool {
        self <= other
    }
}

impl TotalOrder for Epoch {}

impl PartialOrder for EpochsLater {
    fn less_equal(&self, other: &Self) -> bool {
        self.0 <= other.0
    }
}

impl Timestamp for Epoch {
    type Summary = EpochsLater;
    fn minimum() -> Self {
        Epoch(0)
    }
}

impl PathSummary<Epoch> for EpochsLater {
    fn results_in(&self, src: &Epoch) -> Option<Epoch> {
        src.0.checked_add(self.0).map(Epoch)
    }
    fn followed_by(&self, other: &Self) -> Option<Self> {
        self.0.checked_add(other.0).map(EpochsLater)
    }
}

impl Refines<()> for Epoch {
    fn to_inner((): ()) -> Self {
        Epoch(0)
    }
    fn to_outer(self) {}
    fn summarize(_: EpochsLater) {}
}

impl Lattice for Epoch {
    fn join(&self, other: &Self) -> Self {
        *self.max(other)
    }
    fn meet(&self, other: &Self) -> Self {
        *self.min(other)
    }
}
