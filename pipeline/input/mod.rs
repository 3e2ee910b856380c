//! Input: sources, the threads that read them, and the plan by which epochs are cut.

mod clock;
pub mod epoch_plan;
pub mod portion;
pub mod reader;
pub mod sources;
