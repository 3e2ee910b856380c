//! Sharing, within the label stage: selects what the policy of an edge lets leave its site.

mod policy;
mod share;

pub use self::policy::{Pseudonyms, SampleRules, SharePolicy, Treatment};
pub use self::share::share;
