//! Learning: from an order to train to a model that answers, or to none.

mod candidate;
mod comparison;
mod context;
mod donors;
mod gate;
mod judge;
mod learner;
mod losses;
mod recall;
mod reference;
mod remodel;
mod review;
mod reviewed;
mod round;
mod samples;
mod snapshot;
mod split;
mod stage_log;

pub use self::context::TrainingContext;
pub use self::learner::Learner;
pub use self::review::review;
pub use self::snapshot::load;
