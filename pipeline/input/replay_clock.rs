//! The stream's clock in replay: the latest event time, but for those that only a wrong clock of a
//! device can have sent.
//!
//! A time far ahead would hold the clock there for good: labels would no longer wait, and no hour
//! would pass between two evaluations of triggers. So the clock follows a leap only if most samples
//! around it in the epoch have leapt too, as after a gap in the stream.

/// The longest step that the clock takes by one sample alone, microseconds: a month.
const STEP: i64 = 31 * 24 * 3600 * 1_000_000;
/// Samples that tell whether a leap is the stream's: those that follow it, or the last ones of the
/// epoch.
const AROUND: usize = 8;

/// Moves the clock over the event times of an epoch, in the order of the stream. Returns the new
/// clock, and the first time that it did not follow.
pub(super) fn advance(clock: i64, times: &[i64]) -> (i64, Option<i64>) {
    let (mut now, mut refused) = (clock, None);
    for (place, time) in times.iter().copied().enumerate() {
        if time <= now.saturating_add(STEP) || is_shared(times, place) {
            now = now.max(time);
        } else {
            refused = refused.or(Some(time));
        }
    }
    (now, refused)
}

/// A time for a log.
pub(super) fn written(micros: i64) -> String {
    jiff::Timestamp::from_microsecond(micros)
        .map_or_else(|_| micros.to_string(), |time| time.to_string())
}

/// Whether at least half of the samples around a place are not far behind it.
fn is_shared(times: &[i64], place: usize) -> bool {
    let end = (place + AROUND + 1).min(times.len());
    let around = &times[end.saturating_sub(AROUND + 1)..end];
    let least = times[place].saturating_sub(STEP);
    let companions = around.iter().filter(|time| **time >= least).count() - 1;
    companions * 2 >= around.len() - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3600 * 1_000_000;
    const YEAR: i64 = 365 * 24 * HOUR;

    fn hours(from: i64, count: i64) -> Vec<i64> {
        (0..count).map(|hour| from + hour * HOUR).collect()
    }

    #[test]
    fn clock_is_the_latest_time() {
        let mut times = hours(54 * YEAR, 100);
        times.swap(98, 99);
        assert_eq!(advance(i64::MIN, &times), (54 * YEAR + 99 * HOUR, None));
        assert_eq!(advance(60 * YEAR, &times), (60 * YEAR, None));
        assert_eq!(advance(5, &[]), (5, None));
    }

    #[test]
    fn lone_leap_is_not_followed() {
        for place in [0, 1, 50, 98, 99] {
            let mut times = hours(54 * YEAR, 100);
            let latest = times
                .iter()
                .copied()
                .enumerate()
                .filter(|(at, _)| *at != place);
            let latest = latest.map(|(_, time)| time).max().unwrap_or_default();
            times[place] = 129 * YEAR;
            for clock in [i64::MIN, 54 * YEAR - HOUR] {
                assert_eq!(
                    advance(clock, &times),
                    (latest, Some(129 * YEAR)),
                    "{place}"
                );
            }
        }
    }

    #[test]
    fn gaps_of_the_stream_are_followed() {
        let mut times = hours(54 * YEAR, 50);
        times.extend(hours(56 * YEAR, 50));
        assert_eq!(advance(i64::MIN, &times), (56 * YEAR + 49 * HOUR, None));
        // The first sample after the gap is the last of its epoch: the next epoch follows it.
        let (clock, _) = advance(i64::MIN, &times[..51]);
        assert_eq!(clock, 54 * YEAR + 49 * HOUR);
        assert_eq!(advance(clock, &times[51..]).0, 56 * YEAR + 49 * HOUR);
        // A stream with a sample a year, each in an epoch of its own.
        assert_eq!(advance(54 * YEAR, &[55 * YEAR]), (55 * YEAR, None));
    }
}
