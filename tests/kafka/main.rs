//! Kafka in and out, on real brokers.

mod bench;
mod kafka;
mod labels;
mod live;
mod produce;
mod registry;
mod security;
