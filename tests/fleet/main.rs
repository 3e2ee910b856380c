//! Edges and a cloud: real ones on real brokers, and a hundred in one process.

mod edge_cloud;
mod simulation;
mod store;
