//! Perennial's outside: sources, sinks, the knowledge base, ONNX Runtime and the trainer.
//!
//! Connectors know the data types of `perennial_operators`; the operators know nobody.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod format;
pub mod kafka;
pub mod knowledge_base;
pub mod link;
pub mod native;
pub mod onnx;
pub mod schema;
pub mod sink;
pub mod source;
pub mod trainer;
