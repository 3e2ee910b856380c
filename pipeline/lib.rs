//! Perennial: edge-cloud collaborative lifelong learning as one streaming engine.
//!
//! This package puts the operators and the connectors together: configuration, the graph, training
//! stages, the commit, the report and the command line.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod audit;
pub mod bench;
pub mod cli;
mod committer;
pub mod config;
mod draw;
pub mod error;
pub mod evaluate;
mod fault;
mod graph;
mod kb;
mod label;
mod learning;
pub mod link;
mod models;
mod outputs;
pub mod produce;
mod progress;
mod quality;
mod reader;
pub mod report;
mod restore;
pub mod run;
mod signals;
mod sources;
mod status;
