//! Bounded memory: [reservoirs](Reservoir) of labelled samples, and the [quota](Quota) that divides
//! the memory among tasks.

mod quota;
mod reservoir;

pub use self::quota::Quota;
pub use self::reservoir::{Reservoir, Turnover, class_of};
