//! Perennial: edge-cloud collaborative lifelong learning as one streaming engine.
//!
//! This package puts the operators and the connectors together: configuration, the graph, training
//! stages, the commit, the report and the command line.

pub mod commands;
mod commit;
pub mod config;
pub mod error;
mod fault;
mod graph;
mod input;
mod learning;
pub mod link;
pub mod report;
mod restore;
pub mod run;
mod run_status;
mod terminal;
