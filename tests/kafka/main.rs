//! Kafka in and out, on real brokers.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod bench;
mod gone;
mod kafka;
mod labels;
mod live;
mod outages;
mod produce;
mod registry;
mod security;
