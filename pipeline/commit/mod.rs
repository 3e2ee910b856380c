//! The commit: one thread writes the effects of epochs, outputs and knowledge base together.

pub mod committer;
pub mod outputs;
