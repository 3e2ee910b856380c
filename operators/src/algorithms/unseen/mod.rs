//! Unseen tasks: groups in a bounded table, regions of features, trials, and the budget of labels.

mod budget;
mod group;
mod region;
mod table;
mod trial;

pub use self::budget::{Asked, Candidate, LabelBudget, LabelRequest};
pub(crate) use self::budget::{LEAST_GROUP_SAMPLES, MOST_CANDIDATES};
pub use self::group::{
    GroupOutcome, HeldSample, LabelsRequested, UnseenGroup, UnseenGrown, UnseenSettled,
};
pub(crate) use self::region::MAX_OUTLIERS_PER_EPOCH;
pub use self::region::{Outlier, Region, Regions};
pub use self::table::{Entry, Table};
pub use self::trial::{Trial, TrialResult, TrialSample, Verdict};
