//! The link between edges and their cloud: the cloud publishes models and tasks, an edge subscribes
//! to them, and sends what its policy lets leave from a durable outbox.

pub mod adopt;
mod canary;
pub mod common;
pub mod outbox;
pub mod outcomes;
mod pack;
pub mod publish;
pub mod reload;
pub mod role;
pub mod send;
pub mod send_thread;
pub mod subscribe;
