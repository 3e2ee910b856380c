//! Sharing: selects what an edge's policy lets leave, within the label stage.

mod policy;
mod share;

pub use self::policy::{Pseudonyms, SampleRules, SharePolicy, Treatment};
pub use self::share::share;
