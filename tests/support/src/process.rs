//! Processes: signals, memory, open descriptors.

use std::process::Command;

/// Sends a signal, such as `TERM`, to a process.
pub fn signal(process: u32, name: &str) {
    let told = Command::new("kill")
        .args([&format!("-{name}"), &process.to_string()])
        .status();
    assert!(told.expect("kill is there").success(), "{name}");
}

/// Memory of a process in bytes, as Linux counts it: `VmHWM` is its peak, `VmRSS` its present size;
/// 0 if the process is gone.
pub fn status_bytes(process: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let value = |line: &str| {
        let text = line.strip_prefix(name)?.strip_prefix(':')?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    };
    status.lines().find_map(value).unwrap_or(0) * 1024
}

/// Number of open descriptors of a process; 0 if it is gone.
pub fn descriptors(process: u32) -> usize {
    let open = std::fs::read_dir(format!("/proc/{process}/fd"));
    open.map_or(0, |open| open.count())
}
