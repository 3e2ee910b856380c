//! Stage 4, unseen: finds out what unseen tasks are before anything learns from their labels.

mod candidates;
mod group;
mod groups;
mod held;
mod hold;
mod known;

pub use self::group::{GroupStreams, group};
pub use self::groups::{GroupRules, Groups};
pub use self::hold::{GroupEvent, HoldRules, hold};
pub use self::known::known;
