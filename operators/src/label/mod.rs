//! Stage 3, label: joins predictions with the labels that become known for them.

mod join;
mod joiner;
mod waiting;

pub use self::join::join;
pub use self::joiner::{Delay, JoinOutput, Joiner, LabelTiming, RestoredRows};
