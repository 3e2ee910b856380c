//! The operators, each by itself in a small dataflow.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod adapt;
mod cluster;
mod commit;
mod difference;
mod drift;
mod infer;
mod join;
mod neighbours;
mod number;
mod recognize;
mod retain;
mod rows;
mod source;
mod statistics;
mod support;
mod tasks;
mod train;
mod trigger;
mod trigger_flow;
