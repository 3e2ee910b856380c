//! The clock of a live stream: the machine's, without its leaps.
//!
//! What waits for its label waits by this clock, so a machine whose clock is wrong for a moment
//! must neither hold that for years nor end all waits at once.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How far the machine's clock may be ahead of the time that has passed before it has to prove
/// itself. Machines that slept, and clocks that are set right by a little, stay below.
const LEAP: i64 = 60 * 60 * 1_000_000;
/// The same for the first reading of a run, which was preceded by an outage of any length.
const LEAP_AT_START: i64 = 365 * 24 * LEAP;
/// How long the machine's clock must have been ahead before it is believed.
const PROOF: Duration = Duration::from_secs(10 * 60);
/// 2025-01-01, microseconds since 1970: a machine that says less has not been told the time.
const UNSET: i64 = 1_735_689_600_000_000;

/// A clock that never goes back, and leaps only after proof.
pub(super) struct LiveClock {
    /// The latest reading, and when it was taken; none before the first.
    last: Option<(i64, Instant)>,
    /// Bound on a leap that is believed at once.
    leap: i64,
    /// Since when the machine's clock is too far ahead.
    doubted: Option<Instant>,
}

impl LiveClock {
    /// A clock that goes on from a reading of an earlier run, if there is one.
    pub(super) fn new(committed: Option<i64>) -> Self {
        LiveClock {
            last: committed.map(|reading| (reading, Instant::now())),
            leap: LEAP_AT_START,
            doubted: None,
        }
    }

    /// Reads the clock: microseconds since 1970.
    pub(super) fn read(&mut self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let machine = since.map_or(0, |since| since.as_micros() as i64);
        self.advance(machine, Instant::now())
    }

    /// The reading at `now`, when the machine's clock says `machine`.
    fn advance(&mut self, machine: i64, now: Instant) -> i64 {
        let Some((last, at)) = self.last else {
            self.last = Some((machine, now));
            self.leap = LEAP;
            return machine;
        };
        let passed = now.saturating_duration_since(at).as_micros() as i64;
        let steady = last.saturating_add(passed);
        let ahead = machine.saturating_sub(steady);
        let is_doubtful = ahead > self.leap && !(last < UNSET && machine >= UNSET);
        let reading = if is_doubtful {
            let since = *self.doubted.get_or_insert_with(|| {
                let hours = ahead / LEAP;
                tracing::warn!(
                    hours,
                    "the machine's clock has leapt ahead; waiting for proof"
                );
                now
            });
            let is_proven = now.saturating_duration_since(since) >= PROOF;
            if is_proven { machine } else { steady }
        } else {
            machine.max(steady)
        };
        if !is_doubtful || reading == machine {
            self.doubted = None;
            self.leap = LEAP;
        }
        self.last = Some((reading, now));
        reading
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24 * LEAP;
    /// 2026-01-01.
    const TODAY: i64 = UNSET + 365 * DAY;

    /// Readings at seconds of the run, when the machine's clock says these times.
    fn readings(committed: Option<i64>, machine: &[(u64, i64)]) -> Vec<i64> {
        let mut clock = LiveClock::new(committed);
        let began = Instant::now();
        clock.last = committed.map(|reading| (reading, began));
        let at = |second: &u64| began + Duration::from_secs(*second);
        let all = machine.iter();
        all.map(|(second, time)| clock.advance(*time, at(second)))
            .collect()
    }

    #[test]
    fn a_second_in_another_year_passes_unnoticed() {
        let second = 1_000_000;
        let machine = [
            (0, TODAY),
            (1, TODAY + 3650 * DAY),
            (2, TODAY + 2 * second),
            (3, TODAY - 3650 * DAY),
            (4, TODAY + 4 * second),
        ];
        let expected: Vec<i64> = (0..5).map(|passed| TODAY + passed * second).collect();
        assert_eq!(readings(None, &machine), expected);
        // At a restart too, after a day or before it.
        let restarted = readings(Some(TODAY - DAY), &machine[1..]);
        assert_eq!(restarted[0], TODAY - DAY + second);
        assert_eq!(restarted[1], TODAY + 2 * second);
        assert!(restarted.is_sorted());
    }

    #[test]
    fn a_leap_is_believed_when_it_lasts() {
        let later = TODAY + 100 * DAY;
        let machine = [
            (0, TODAY),
            (1, later),
            (599, later),
            (601, later),
            (602, TODAY),
        ];
        let seconds = |count: i64| count * 1_000_000;
        let expected = [
            TODAY,
            TODAY + seconds(1),
            TODAY + seconds(599),
            later,
            later + seconds(1),
        ];
        assert_eq!(readings(None, &machine), expected);
        // A machine that slept, an outage, and a clock that is set for the first time.
        assert_eq!(
            readings(None, &[(0, TODAY), (1, TODAY + LEAP)])[1],
            TODAY + LEAP
        );
        assert_eq!(readings(Some(TODAY), &[(0, later)]), [later]);
        assert_eq!(readings(None, &[(0, 5), (1, TODAY)]), [5, TODAY]);
    }
}
