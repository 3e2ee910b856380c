//! Outages: what fails again and again is logged once, and counted until it works again.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// Time without a failure after which an outage counts as over, though nothing may have succeeded.
const QUIET: Duration = Duration::from_secs(300);

/// Count of the failures of one outage, so that its first one alone is logged.
#[derive(Debug, Default)]
pub struct OutageCount {
    failures: Cell<u64>,
    last: Cell<Option<Instant>>,
}

impl OutageCount {
    /// Counts a failure. Returns whether it is the first one of an outage, which is to be logged.
    pub fn begins(&self) -> bool {
        self.fails_at(Instant::now())
    }

    fn fails_at(&self, now: Instant) -> bool {
        let last = self.last.replace(Some(now));
        if last.is_some_and(|last| now.saturating_duration_since(last) > QUIET) {
            self.failures.set(0);
        }
        self.failures.set(self.failures.get() + 1);
        self.failures.get() == 1
    }

    /// Whether there are failures since the last success.
    pub fn lasts(&self) -> bool {
        self.failures.get() > 0
    }

    /// Ends an outage, if there is one, and logs how often `what` failed.
    pub fn ends(&self, what: &str) {
        let failures = self.failures.replace(0);
        if failures > 0 {
            tracing::info!(failures, "{what} again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outage_begins_once() {
        let outage = OutageCount::default();
        let start = Instant::now();
        let after = |seconds| outage.fails_at(start + Duration::from_secs(seconds));
        assert!(!outage.lasts());
        // Days offline with an error every ten seconds are one outage.
        assert!(after(0));
        assert!((1..20_000).all(|number| !after(10 * number)));
        outage.ends("sent");
        assert!(!outage.lasts());
        assert!(after(200_000));
        assert!(!after(200_300));
        assert!(after(200_601));
    }
}
