//! Bounded memory: reservoirs of labelled samples and the quotas that share the memory out.

mod quota;
mod reservoir;

pub use self::quota::Quota;
pub use self::reservoir::{Reservoir, Turnover, class_of};
