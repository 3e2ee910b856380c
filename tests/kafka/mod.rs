//! Kafka in and out, on real brokers.

mod backlog;
mod bench;
mod duplicates;
mod exactly_once;
mod gone;
mod labels;
mod live;
mod outages;
mod overlap;
mod poison;
mod produce;
mod registry;
mod security;
