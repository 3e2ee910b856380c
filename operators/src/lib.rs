//! The dataflow of Perennial: one operator a file, no input or output, each testable alone.
//!
//! Samples flow as [`Batch`]es of columns through [`allocate`](allocate::allocate),
//! [`infer`](infer::infer), [`join`](join::join) and on; what is learned flows as
//! [`KnowledgeChange`]s. The timestamp is the [`Epoch`].

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod adapt;
mod adapter;
pub mod allocate;
mod change;
pub mod cluster;
pub mod commit;
pub mod define;
mod difference;
pub mod drift;
mod epoch;
pub mod flow;
pub mod follow;
pub mod infer;
pub mod integrate;
pub mod join;
mod label;
pub mod neighbours;
pub mod pending;
pub mod recent;
pub mod recognize;
mod record;
pub mod render;
pub mod retain;
mod sample;
pub mod share;
pub mod source;
mod stash;
pub mod statistics;
pub mod summarize;
mod task;
pub mod train;
mod training;
pub mod trigger;
pub mod unseen;

pub use adapter::*;
pub use change::*;
pub use difference::*;
pub use epoch::*;
pub use label::*;
pub use record::*;
pub use sample::*;
pub use task::*;
pub use training::*;

/// What went wrong, as the operators pass it on: they neither cause nor handle it.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
