//! The command line, the config and the examples.

mod config;
mod demo;
mod examples;
mod import;
mod init;
mod manuals;
mod supervisor;
mod trainers;
