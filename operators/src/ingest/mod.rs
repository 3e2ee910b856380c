//! Stage 1, ingest: reads epochs, allocates their samples to tasks, and defines new tasks.

mod allocate;
mod define;
mod source;

pub use self::allocate::{Allocator, TaskBound, allocate};
pub use self::define::define;
pub use self::source::{Pace, Reader, Reading, SourceEpoch, source};
