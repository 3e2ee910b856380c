//! The commit: one thread writes what epochs did, outputs and knowledge together.

pub mod committer;
pub mod outputs;
