//! Kafka in and out, on real brokers.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod backlog;
mod bench;
mod duplicates;
mod gone;
mod kafka;
mod labels;
mod live;
mod outages;
mod overlap;
mod poison;
mod produce;
mod registry;
mod security;
