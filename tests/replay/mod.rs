//! Runs on files and on the simulator: what they write, and that neither workers, crashes nor bad
//! input change it.

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
mod retained;
mod system;
mod values;
mod worker_count;
