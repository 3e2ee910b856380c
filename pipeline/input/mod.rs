//! Input: sources, the threads that read them, and the plan by which epochs are cut.

pub mod epoch_plan;
pub mod portion;
pub mod reader;
pub mod sources;
