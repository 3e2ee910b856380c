//! Learning: training orders are carried out, candidates judged, and the best one deployed or
//! refused.

mod candidate;
mod comparison;
mod context;
mod decide;
mod deployed;
mod donors;
mod gate;
mod judge;
mod learner;
mod left_out;
mod losses;
mod queue;
mod recall;
mod reference;
mod remodel;
mod review;
mod review_result;
mod round;
mod samples;
mod snapshot;
mod split;
mod stage_log;

pub use self::context::{RefusedDonors, TrainingContext};
pub use self::deployed::load;
pub use self::learner::Learner;
pub use self::review::review;
