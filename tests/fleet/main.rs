//! Edges and a cloud: real ones on real brokers, and a hundred in one process.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod downloads;
mod edge_cloud;
mod intake;
mod simulation;
mod store;
