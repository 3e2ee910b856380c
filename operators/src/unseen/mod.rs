//! Stage 4, unseen: holds the labels of unseen tasks until it is decided what each task is.

mod candidates;
mod defined_tasks;
mod group;
mod groups;
mod held_samples;
mod hold;
mod known;

pub use self::group::{GroupStreams, group};
pub use self::groups::{GroupRules, Groups};
pub use self::hold::{GroupEvent, HoldRules, hold};
pub use self::known::known;
