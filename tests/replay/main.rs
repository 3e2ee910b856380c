//! Runs on files and on the simulator: what they write, and that neither workers, crashes nor bad
//! input change it.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod bad_input;
mod bad_state;
mod crash;
mod forget;
mod labels;
mod many_tasks;
mod memory;
mod number;
mod oracle;
mod outputs;
mod replay;
mod retained;
mod system;
mod values;
