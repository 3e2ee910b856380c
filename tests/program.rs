//! The tests of the whole program, a module for each subject.
//!
//! They are one test program, so that the slow tests of one subject run beside those of others, and
//! that it is linked once.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod chaos;
mod command;
mod fleet;
mod kafka;
mod learning;
mod replay;
