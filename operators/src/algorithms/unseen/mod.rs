//! Unseen tasks: groups of samples that no task is defined for, until labels show what they are.
//!
//! Samples whose attributes have unknown values form an [`UnseenGroup`] for each task that these
//! values would make. Where attributes do not distinguish them, samples that are far from all known
//! tasks ([`Outlier`]s) form [`Regions`] of features, and each [`Region`] has a group.
//!
//! - A group needs nothing but a place in a bounded [`Table`]. Labels of its samples are
//!   [held](crate::unseen::hold()) there, and nothing learns from them yet.
//! - A [`LabelBudget`] requests labels of the samples that matter most, of groups above all.
//! - When a group has enough labels, a [`Trial`] evaluates the tasks beside it on them. If one of
//!   these tasks fits the labels, the group is that task under another name, and becomes its alias.
//!   Otherwise the group becomes a task, and learns from the held labels.
//! - A group that is evicted for others leaves its labels to the tasks above it.
//!
//! So made-up attribute values cannot define any number of tasks, and no label is lost.

mod budget;
mod group;
mod region;
mod table;
mod trial;

pub use self::budget::{Candidate, LabelBudget, LabelRequest, RequestHistory};
pub(crate) use self::budget::{LEAST_GROUP_SAMPLES, MOST_CANDIDATES};
pub use self::group::{
    GroupOutcome, HeldSample, LabelsRequested, UnseenGroup, UnseenGrown, UnseenSettled,
};
pub(crate) use self::region::{MAX_OUTLIERS_PER_EPOCH, REMEMBERED};
pub use self::region::{Outlier, Region, Regions};
pub use self::table::{Entry, Table};
pub use self::trial::{Trial, TrialResult, TrialSample, Verdict};
