//! Times of records: dates with or without a time, and Unix seconds.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::Value;
use super::fields::quote;

/// The last second that can be written as a time in any zone: 9999-12-30T22:00:00Z.
const LAST_SECOND: f64 = 253_402_207_200.0;

/// The first second of the year 0.
const FIRST_SECOND: f64 = -62_167_219_200.0;

/// The longest distance from the time before at which a number that may be a date still counts as
/// Unix seconds: a year, in microseconds.
const NEAR: u64 = 366 * 24 * 3600 * 1_000_000;

/// Parses times and keeps the last one, since neighbours often share it.
#[derive(Debug, Default)]
pub(crate) struct TimeParser {
    text: String,
    micros: i64,
    /// The latest time that was read.
    before: Option<i64>,
}

impl TimeParser {
    /// Microseconds since 1970-01-01 UTC.
    pub(crate) fn read(&mut self, column: &str, value: Value) -> Result<i64, String> {
        let micros = match value {
            Value::Missing => Err(format!("time {column:?} is missing")),
            Value::Time(micros) => match micros as f64 / 1e6 {
                FIRST_SECOND..=LAST_SECOND => Ok(micros),
                _ => Err(format!("time {column:?} is beyond the year 9999")),
            },
            Value::Number(number) => self.from_number(column, number),
            Value::Text(text) if text == self.text => Ok(self.micros),
            Value::Text(text) => {
                let micros = self.parse(column, text)?;
                // No format of a time needs more; a longer text would only take memory.
                if text.len() <= 64 {
                    self.text.clear();
                    self.text.push_str(text);
                    self.micros = micros;
                }
                Ok(micros)
            }
        }?;
        self.before = Some(micros);
        Ok(micros)
    }

    /// Parses a time: a number, or else a date or a date with time.
    fn parse(&self, column: &str, text: &str) -> Result<i64, String> {
        let trimmed = text.trim();
        if let Ok(number) = trimmed.parse::<f64>() {
            return self.from_number(column, number);
        }
        if let Ok(time) = trimmed.parse::<Timestamp>() {
            return Ok(time.as_microsecond());
        }
        let value = || quote(Value::Text(text));
        let civil = trimmed.parse::<DateTime>().map_err(|_| {
            format!(
                "time {column:?} is {}, neither RFC 3339, a date, YYYY-MM-DD HH:MM:SS nor Unix seconds",
                value()
            )
        })?;
        instant(civil)
            .ok_or_else(|| format!("time {column:?} is {}, beyond the year 9999", value()))
    }

    /// The time of a number: Unix seconds, or the digits of a date.
    ///
    /// YYYYMMDDhhmm and YYYYMMDDhhmmss are no seconds of this age, so they are read. YYYYMMDD and
    /// YYYYMMDDhh are also seconds of 1970 and of the 2030s. What is meant shows in the time
    /// before, which a stream of seconds has nearby; without one the number is refused, since a
    /// wrong guess would go unnoticed.
    fn from_number(&self, column: &str, number: f64) -> Result<i64, String> {
        let seconds = || (number * 1e6).round() as i64;
        match date_of_digits(number) {
            Some((date, true)) => {
                let is_near = |before: i64| before.abs_diff(seconds()) <= NEAR;
                if self.before.is_some_and(is_near) {
                    return Ok(seconds());
                }
                let value = quote(Value::Number(number));
                Err(format!(
                    "time {column:?} is {value}, which may be {date} or Unix seconds: write it as \
                     YYYY-MM-DD HH:MM:SS"
                ))
            }
            Some((date, false)) => {
                instant(date).ok_or_else(|| format!("time {column:?} is beyond the year 9999"))
            }
            None if (FIRST_SECOND..=LAST_SECOND).contains(&number) => Ok(seconds()),
            None => {
                let value = quote(Value::Number(number));
                Err(format!(
                    "time {column:?} is {value}, beyond the year 9999 as Unix seconds (milliseconds, perhaps?)"
                ))
            }
        }
    }
}

/// Microseconds since 1970-01-01 of a time in UTC, if it can be written in any zone.
fn instant(civil: DateTime) -> Option<i64> {
    let time = TimeZone::UTC.to_timestamp(civil).ok()?;
    Some(time.as_microsecond())
}

/// The date that a number's digits may mean: YYYYMMDD, YYYYMMDDhh, YYYYMMDDhhmm or YYYYMMDDhhmmss
/// from 1900 to 2100. Also whether the number could as well be a count of seconds.
fn date_of_digits(number: f64) -> Option<(DateTime, bool)> {
    if number.fract() != 0.0 || !(1900_01_01.0..=2100_12_31_23_59_59.0).contains(&number) {
        return None;
    }
    let number = number as u64;
    let digits = number.ilog10() + 1;
    if digits % 2 == 1 {
        return None;
    }
    let whole = number * 10_u64.pow(14 - digits);
    let pair = |place: u32| (whole / 10_u64.pow(place) % 100) as i8;
    let year = (whole / 10_u64.pow(10)) as i16;
    let date = DateTime::new(year, pair(8), pair(6), pair(4), pair(2), pair(0), 0).ok()?;
    (1900..=2100).contains(&year).then_some((date, digits < 12))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Result<i64, String> {
        TimeParser::default().read("t", Value::Text(text))
    }

    #[test]
    fn times_in_all_their_forms() {
        let expected = 1_718_810_565_000_000;
        for text in [
            "2024-06-19T15:22:45Z",
            "2024-06-19T17:22:45+02:00",
            "2024-06-19 15:22:45",
            "2024-06-19T15:22:45",
            " 2024-06-19 15:22:45.000 ",
            "1718810565",
            "1718810565.0",
        ] {
            assert_eq!(time(text), Ok(expected), "{text}");
        }
        assert_eq!(time("2024-06-19"), Ok(1_718_755_200_000_000));
        assert_eq!(time("1718810565.123457"), Ok(1_718_810_565_123_457));
        assert_eq!(time("-1.5"), Ok(-1_500_000));
        // Minutes and seconds of a date without separators.
        assert_eq!(time("20240619152245"), Ok(expected));
        assert_eq!(time("202406191522"), Ok(expected - 45_000_000));
        assert!(time("1718810565000").unwrap_err().contains("milliseconds"));
        for text in [
            "yesterday",
            "2024-13-01",
            "NaN",
            "inf",
            "2024-06-19T15:22:45+99:00",
        ] {
            let error = time(text).unwrap_err();
            assert!(error.starts_with("time \"t\" is "), "{error}");
        }
    }

    #[test]
    fn numbers_that_may_be_dates_need_a_time_nearby() {
        for number in ["20240103", "2024010318"] {
            let error = time(number).unwrap_err();
            assert!(error.contains("2024-01-03T"), "{error}");
            assert!(error.contains("or Unix seconds"), "{error}");
        }
        // No day 63, no hour 60: plain seconds.
        assert_eq!(time("20240163"), Ok(20_240_163_000_000));
        assert_eq!(time("2024010360"), Ok(2_024_010_360_000_000));
        // Seconds that pass through such numbers are understood by the time before.
        for start in [20_240_101, 2_024_010_317_i64] {
            let mut parser = TimeParser::default();
            // The digits of the day before are no date.
            let before = Value::Number((start - 86_400) as f64);
            parser.read("t", before).unwrap();
            let read = parser.read("t", Value::Number(start as f64));
            assert_eq!(read, Ok(start * 1_000_000));
        }
    }

    #[test]
    fn times_that_cannot_be_written_are_refused() {
        let last = "253402207200";
        let written = |micros| Timestamp::from_microsecond(micros).unwrap().to_string();
        assert_eq!(time(last).map(written).unwrap(), "9999-12-30T22:00:00Z");
        for text in ["253402300799", "9999-12-31 23:59:59"] {
            let error = time(text).unwrap_err();
            assert!(error.contains("beyond the year 9999"), "{error}");
        }
        let time = Value::Time(253_402_300_799_000_000);
        assert!(TimeParser::default().read("t", time).is_err());
    }
}
