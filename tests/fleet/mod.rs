//! Edges and a cloud: real ones on real brokers, and a hundred in one process.

mod downloads;
mod edge_cloud;
mod intake;
mod shards;
mod simulation;
mod store;
