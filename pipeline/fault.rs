//! Named points at which a test can kill the process, to see that nothing is lost there.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// `NAME` or `NAME#N`: the process aborts when it comes to the point for the N-th time.
const VARIABLE: &str = "PERENNIAL_KILL_AT";

static WANTED: OnceLock<Option<(String, u64)>> = OnceLock::new();
static PASSED: AtomicU64 = AtomicU64::new(0);

/// Aborts, as `kill -9` would, if the environment asks for it here.
pub fn point(name: &str) {
    let wanted = WANTED.get_or_init(|| {
        let text = std::env::var(VARIABLE).ok()?;
        let (name, times) = match text.split_once('#') {
            Some((name, times)) => (name.to_string(), times.parse().ok()?),
            None => (text, 1),
        };
        Some((name, times))
    });
    if let Some((wanted, times)) = wanted
        && wanted == name
        && PASSED.fetch_add(1, Ordering::SeqCst) + 1 == *times
    {
        std::process::abort();
    }
}
