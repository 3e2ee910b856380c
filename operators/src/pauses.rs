//! Pauses of an operator that has to look again and again, since nothing activates it.

use std::time::Duration;

/// Pause between looks at first, which bounds the delay of what comes soon.
const SHORT: Duration = Duration::from_micros(100);
/// Pause between looks of an operator that has waited for a while, so that an idle stream costs
/// little.
const LONG: Duration = Duration::from_millis(1);
/// Number of short pauses before the first long one.
const SHORT_PAUSES: u32 = 10;

/// Pauses between the looks of one operator.
#[derive(Default)]
pub(crate) struct Pauses {
    /// Number of looks in vain since the last one that found something.
    in_vain: u32,
}

impl Pauses {
    /// Time until the next look, after one in vain.
    pub(crate) fn next(&mut self) -> Duration {
        self.in_vain = self.in_vain.saturating_add(1);
        match self.in_vain {
            ..=SHORT_PAUSES => SHORT,
            _ => LONG,
        }
    }

    /// Notes that a look found something.
    pub(crate) fn reset(&mut self) {
        self.in_vain = 0;
    }
}
