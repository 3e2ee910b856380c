//! Learning: training orders are carried out, candidates judged, and the best one deployed or
//! refused.

mod candidate;
mod context;
mod decide;
mod deployed;
mod donors;
mod fit;
mod gate;
mod judge;
mod left_out;
mod losses;
mod paired_gain;
mod queue;
mod recall;
mod reference;
mod review;
mod review_result;
mod round;
mod samples;
mod snapshot;
mod split;
mod stage_log;
mod training_threads;

pub use self::context::{RefusedDonors, TrainingContext};
pub use self::deployed::load;
pub use self::review::review;
pub use self::training_threads::Learner;
