//! Input: sources, the threads that read them, and how epochs are cut.

pub mod plan;
pub mod portion;
pub mod reader;
pub mod sources;
