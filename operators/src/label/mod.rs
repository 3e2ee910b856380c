//! Stage 3, label: joins predictions with the labels that become known for them.

mod join;
mod waiting;

pub use self::join::{Delay, JoinOutput, Joiner, LabelTiming, RestoredRows, join};
