//! Named points at which a test can kill or halt the process, to see that nothing is lost there.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// `NAME` or `NAME#N`: the process aborts when it comes to the point for the N-th time.
const KILL: &str = "PERENNIAL_KILL_AT";
/// The same; it is halted there, until somebody lets it go on.
const HALT: &str = "PERENNIAL_HALT_AT";

/// What is to happen at a point.
struct Fault {
    name: String,
    times: u64,
    passed: AtomicU64,
    strike: fn(),
}

static FAULTS: OnceLock<Vec<Fault>> = OnceLock::new();

/// Aborts, as `kill -9` would, or halts, as `kill -STOP` would, if the environment asks for it here.
pub fn point(name: &str) {
    let faults = FAULTS.get_or_init(|| {
        let wanted = [wanted(KILL, || std::process::abort()), wanted(HALT, halt)];
        wanted.into_iter().flatten().collect()
    });
    for fault in faults.iter().filter(|fault| fault.name == name) {
        if fault.passed.fetch_add(1, Ordering::SeqCst) + 1 == fault.times {
            (fault.strike)();
        }
    }
}

fn wanted(variable: &str, strike: fn()) -> Option<Fault> {
    let text = std::env::var(variable).ok()?;
    let (name, times) = match text.split_once('#') {
        Some((name, times)) => (name.to_string(), times.parse().ok()?),
        None => (text, 1),
    };
    Some(Fault {
        name,
        times,
        passed: AtomicU64::new(0),
        strike,
    })
}

fn halt() {
    // This signal cannot fail to be sent.
    let _ = signal_hook::low_level::raise(signal_hook::consts::SIGSTOP);
}
