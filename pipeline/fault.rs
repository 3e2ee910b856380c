//! Named points at which a test can kill or halt the process, to check that nothing is lost there.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Environment variable `NAME` or `NAME#N`: the process aborts when it reaches the point `NAME` for
/// the `N`-th time, the first by default.
const KILL: &str = "PERENNIAL_KILL_AT";
/// The same, but the process halts until it gets a signal to continue.
const HALT: &str = "PERENNIAL_HALT_AT";

/// A fault that is to be injected.
struct Fault {
    /// The point.
    name: String,
    /// The visit of the point at which the fault strikes, from 1.
    visit: u64,
    visits: AtomicU64,
    strike: fn(),
}

static FAULTS: OnceLock<Vec<Fault>> = OnceLock::new();

/// Aborts like `kill -9`, or halts like `kill -STOP`, if the environment names this point.
pub fn point(name: &str) {
    let faults = FAULTS.get_or_init(|| {
        let kill = from_environment(KILL, || std::process::abort());
        let halt = from_environment(HALT, halt);
        kill.into_iter().chain(halt).collect()
    });
    for fault in faults.iter().filter(|fault| fault.name == name) {
        if fault.visits.fetch_add(1, Ordering::SeqCst) + 1 == fault.visit {
            (fault.strike)();
        }
    }
}

fn from_environment(variable: &str, strike: fn()) -> Option<Fault> {
    let text = std::env::var(variable).ok()?;
    let (name, visit) = match text.split_once('#') {
        Some((name, visit)) => (name.to_string(), visit.parse().ok()?),
        None => (text, 1),
    };
    Some(Fault {
        name,
        visit,
        visits: AtomicU64::new(0),
        strike,
    })
}

fn halt() {
    // Sending this signal to oneself cannot fail.
    let _ = signal_hook::low_level::raise(signal_hook::consts::SIGSTOP);
}
