//! Algorithms without streams: each is a plain type or function that names the paper it comes from.
//!
//! Floor 2 of the crate: they use the data types and each other, no stream and no operator.

pub mod adapter;
pub mod cluster;
pub mod distance;
pub mod drift;
pub mod neighbours;
pub mod pool;
pub mod recognize;
pub mod retain;
pub mod unseen;
pub mod usual;
