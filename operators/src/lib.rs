//! The dataflow of Perennial: one operator a file, no input or output, each testable alone.
//!
//! Samples flow as [`Batch`]es of columns through `allocate`, `infer`, `join` and on; what is learned
//! flows as [`KnowledgeChange`]s. The timestamp is the [`Epoch`].

mod change;
mod difference;
mod epoch;
mod sample;
mod task;
mod training;

pub use change::*;
pub use difference::*;
pub use epoch::*;
pub use sample::*;
pub use task::*;
pub use training::*;
