//! The command line, the config and the examples.

mod command;
mod config;
mod examples;
