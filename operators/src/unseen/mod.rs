//! Stage 4, unseen: finds out what unseen tasks are before anything learns from their labels.

mod candidates;
mod group;
mod groups;
mod held;
mod hold;
mod known;

pub use self::group::{Told, group};
pub use self::groups::{GroupRules, Groups};
pub use self::hold::{HoldRules, Sighting, hold};
pub use self::known::known;
