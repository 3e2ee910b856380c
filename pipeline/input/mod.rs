//! Input: sources, the threads that read them, and the plan by which epochs are cut.

pub mod epoch_plan;
mod live_clock;
pub mod portion;
pub mod reader;
mod replay_clock;
pub mod sources;
