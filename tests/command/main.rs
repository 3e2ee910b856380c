//! The command line, the config and the examples.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod command;
mod config;
mod examples;
