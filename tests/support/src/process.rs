//! Signals to processes.

use std::process::Command;

/// Sends a signal, such as `TERM`, to a process.
pub fn signal(process: u32, name: &str) {
    let told = Command::new("kill")
        .args([&format!("-{name}"), &process.to_string()])
        .status();
    assert!(told.expect("kill is there").success(), "{name}");
}
