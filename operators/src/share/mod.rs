//! Sharing, within the label stage: selects what the policy of an edge lets leave its site.

mod labelled;
mod policy;

pub use self::labelled::share;
pub use self::policy::{Pseudonyms, SampleRules, SharePolicy, Treatment};
