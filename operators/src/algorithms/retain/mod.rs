//! Bounded memory: reservoirs of labelled samples and the quotas that share the memory out.

mod quota;
mod reservoir;

pub use self::quota::Level;
pub use self::reservoir::{Reservoir, Turnover, class_of};
