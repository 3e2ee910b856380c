//! The link between edges and their cloud.

pub mod adopt;
mod canary;
pub mod common;
pub mod inbox;
pub mod outbox;
pub mod publish;
pub mod role;
pub mod send;
pub mod send_thread;
pub mod subscribe;
