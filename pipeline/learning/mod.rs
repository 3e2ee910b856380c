//! Learning: from an order to train to a model that answers, or to none.

mod donors;
mod gate;
mod judge;
mod learner;
mod material;
mod recall;
mod reference;
mod remodel;
mod review;
mod round;
mod split;
mod stage_log;

pub use learner::{Learner, Workshop};
pub use review::review;
pub use round::load;
