//! Values of single columns: times, numbers, names out of a list, labels, ids.

use std::collections::VecDeque;
use std::collections::hash_map::Entry;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use perennial_operators::flow::SeenIds;
use perennial_operators::{LARGEST_NUMBER, LabelKind, id_number};
use rustc_hash::FxHashMap;

use super::Value;
use crate::schema::Label;

/// The longest id or attribute value in bytes, which bounds a batch's texts and the dictionaries.
const MAX_TEXT: usize = 1024;

/// Characters of a bad value that a reason quotes.
const QUOTED: usize = 60;

/// The last second of the year 9999.
const LAST_SECOND: f64 = 253_402_300_799.0;

/// The first second of the year 0.
const FIRST_SECOND: f64 = -62_167_219_200.0;

/// A value in quotes for a reason, cut if it is long.
pub(crate) fn quote(value: Value) -> String {
    let mut scratch = String::new();
    let text = value.text(&mut scratch);
    match text.char_indices().nth(QUOTED) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// Whether a text stands for no value in a column of numbers or classes.
fn is_missing(text: &str) -> bool {
    matches!(text, "" | "NaN" | "nan" | "NA" | "N/A" | "null")
}

/// Checks that an id or attribute value is not too long; `what` names it.
pub(crate) fn check_length(what: &str, column: &str, value: Value) -> Result<(), String> {
    match value {
        Value::Text(text) if text.len() > MAX_TEXT => Err(format!(
            "{what} {column:?} has {} bytes, more than {MAX_TEXT}",
            text.len()
        )),
        _ => Ok(()),
    }
}

/// The number of a feature or a label, as named by `what`; NaN if missing.
pub(crate) fn number(what: &str, column: &str, value: Value) -> Result<f32, String> {
    let number = match value {
        Value::Missing => return Ok(f32::NAN),
        Value::Number(number) => number,
        Value::Time(micros) => micros as f64 / 1e6,
        Value::Text(text) => match text.trim() {
            "true" => 1.0,
            "false" => 0.0,
            text if is_missing(text) => return Ok(f32::NAN),
            text => text
                .parse::<f64>()
                .map_err(|_| format!("{what} {column:?} is {}, not a number", quote(value)))?,
        },
    };
    let number = number as f32;
    if number.is_infinite() {
        return Err(format!(
            "{what} {column:?} is {}, not a finite 32-bit number",
            quote(value)
        ));
    }
    Ok(number)
}

/// Parses times and keeps the last one, since neighbours often share it.
#[derive(Debug, Default)]
pub(crate) struct TimeParser {
    text: String,
    micros: i64,
}

impl TimeParser {
    /// Microseconds since 1970-01-01 UTC.
    pub(crate) fn read(&mut self, column: &str, value: Value) -> Result<i64, String> {
        match value {
            Value::Missing => Err(format!("time {column:?} is missing")),
            Value::Time(micros) => match micros as f64 / 1e6 {
                FIRST_SECOND..=LAST_SECOND => Ok(micros),
                _ => Err(format!("time {column:?} is beyond the year 9999")),
            },
            Value::Number(seconds) => from_seconds(column, seconds),
            Value::Text(text) if text == self.text => Ok(self.micros),
            Value::Text(text) => {
                let micros = parse_time(column, text)?;
                // No format of a time needs more; a longer text would only take memory.
                if text.len() <= 64 {
                    self.text.clear();
                    self.text.push_str(text);
                    self.micros = micros;
                }
                Ok(micros)
            }
        }
    }
}

/// Parses a time: a number is Unix seconds, anything else a date or a date with time.
fn parse_time(column: &str, text: &str) -> Result<i64, String> {
    let trimmed = text.trim();
    if let Ok(seconds) = trimmed.parse::<f64>() {
        return from_seconds(column, seconds);
    }
    if let Ok(time) = trimmed.parse::<Timestamp>() {
        return Ok(time.as_microsecond());
    }
    let utc = trimmed
        .parse::<DateTime>()
        .and_then(|time| TimeZone::UTC.to_timestamp(time));
    utc.map(Timestamp::as_microsecond).map_err(|_| {
        let value = quote(Value::Text(text));
        format!("time {column:?} is {value}, neither RFC 3339, a date, YYYY-MM-DD HH:MM:SS nor Unix seconds")
    })
}

fn from_seconds(column: &str, seconds: f64) -> Result<i64, String> {
    if (FIRST_SECOND..=LAST_SECOND).contains(&seconds) {
        return Ok((seconds * 1e6).round() as i64);
    }
    let value = quote(Value::Number(seconds));
    Err(format!(
        "time {column:?} is {value}, beyond the year 9999 as Unix seconds (milliseconds, perhaps?)"
    ))
}

/// Numbers of the names of a list: classes, or the values of a categorical feature.
#[derive(Debug)]
pub(crate) struct Names {
    numbers: FxHashMap<String, f32>,
    scratch: String,
}

impl Names {
    pub(crate) fn new(names: &[String]) -> Names {
        let mut numbers = FxHashMap::default();
        for (i, name) in names.iter().enumerate() {
            numbers.insert(name.clone(), i as f32);
        }
        // Other programs turn the class 1 into 1.0 and back, so both are found.
        for (i, name) in names.iter().enumerate() {
            if let Ok(number) = name.parse::<f64>() {
                numbers.entry(format!("{number}")).or_insert(i as f32);
            }
        }
        Names {
            numbers,
            scratch: String::new(),
        }
    }

    /// The number of a value; NaN if it is missing, `None` if it is not in the list.
    pub(crate) fn number(&mut self, value: Value) -> Option<f32> {
        let text = value.text(&mut self.scratch);
        if let Some(number) = self
            .numbers
            .get(text)
            .or_else(|| self.numbers.get(text.trim()))
        {
            return Some(*number);
        }
        if is_missing(text.trim()) {
            return Some(f32::NAN);
        }
        let number = text.trim().parse::<f64>().ok()?;
        self.numbers
            .get(Value::Number(number).text(&mut String::new()))
            .copied()
    }
}

/// Parses labels.
#[derive(Debug)]
pub(crate) enum LabelParser {
    /// The label is the number of its class.
    Classes(Names),
    /// The label is a number.
    Number,
}

impl LabelParser {
    pub(crate) fn new(label: &Label) -> LabelParser {
        match label.kind() {
            LabelKind::Classes(_) => LabelParser::Classes(Names::new(&label.classes)),
            LabelKind::Number => LabelParser::Number,
        }
    }

    /// Parses a label; NaN if missing.
    pub(crate) fn read(&mut self, column: &str, value: Value) -> Result<f32, String> {
        match self {
            LabelParser::Number => {
                let label = number("label", column, value)?;
                if label.abs() > LARGEST_NUMBER {
                    let value = quote(value);
                    return Err(format!(
                        "label {column:?} is {value}, and a label is a number up to {LARGEST_NUMBER:e}"
                    ));
                }
                Ok(label)
            }
            LabelParser::Classes(classes) => classes.number(value).ok_or_else(|| {
                format!(
                    "label {column:?} is {}, which is not one of its classes",
                    quote(value)
                )
            }),
        }
    }

    /// Parses a label that must not be missing.
    pub(crate) fn known(&mut self, column: &str, value: Value) -> Result<f32, String> {
        let label = self.read(column, value)?;
        if label.is_nan() {
            return Err(format!("label {column:?} is missing"));
        }
        Ok(label)
    }
}

/// The id of a record, which must not be missing.
pub(crate) fn known_id<'a>(
    column: &str,
    value: Value<'a>,
    scratch: &'a mut String,
) -> Result<&'a str, String> {
    check_length("id", column, value)?;
    let id = value.text(scratch);
    if id.is_empty() {
        return Err(format!("id {column:?} is missing"));
    }
    Ok(id)
}

/// The ids of the latest records as 64-bit hashes, in which duplicates are found.
#[derive(Debug)]
pub(crate) struct Seen {
    within: usize,
    order: VecDeque<u64>,
    records: FxHashMap<u64, u64>,
    /// New ids since the last [`Seen::take_new`], if they are stored.
    new: Option<Vec<(u64, u64)>>,
}

impl Seen {
    /// Remembers the latest `within` ids; none if 0.
    pub(crate) fn new(within: usize) -> Seen {
        Seen {
            within,
            order: VecDeque::new(),
            records: FxHashMap::default(),
            new: None,
        }
    }

    /// Goes on with the ids of an earlier run, oldest first; new ids are to be stored too.
    pub(crate) fn resume(&mut self, stored: &[(u64, u64)]) {
        let latest = &stored[stored.len().saturating_sub(self.within)..];
        for (id, record) in latest {
            if self.records.insert(*id, *record).is_none() {
                self.order.push_back(*id);
            }
        }
        self.new = Some(Vec::new());
    }

    /// Takes the ids to store, with the records that had them.
    pub(crate) fn take_new(&mut self) -> SeenIds {
        SeenIds {
            ids: self.new.as_mut().map(std::mem::take).unwrap_or_default(),
            within: self.within as u64,
        }
    }

    /// Records an id.
    ///
    /// # Errors
    /// The id is known: the number of the record that had it.
    pub(crate) fn insert(&mut self, id: &str, record: u64) -> Result<(), u64> {
        if self.within == 0 {
            return Ok(());
        }
        let hash = id_number(id);
        match self.records.entry(hash) {
            Entry::Occupied(entry) => return Err(*entry.get()),
            Entry::Vacant(entry) => entry.insert(record),
        };
        self.order.push_back(hash);
        if let Some(new) = &mut self.new {
            new.push((hash, record));
        }
        if self.order.len() > self.within
            && let Some(oldest) = self.order.pop_front()
        {
            self.records.remove(&oldest);
        }
        Ok(())
    }
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
    fn numbers_and_texts_that_are_none() {
        for text in ["", "NaN", "NA", " ", "null"] {
            assert!(
                number("feature", "a", Value::Text(text)).unwrap().is_nan(),
                "{text:?}"
            );
        }
        assert_eq!(number("feature", "a", Value::Text(" -1.5e3 ")), Ok(-1500.0));
        assert_eq!(number("feature", "a", Value::Text("true")), Ok(1.0));
        assert_eq!(
            number("feature", "ta", Value::Text("abc")).unwrap_err(),
            r#"feature "ta" is "abc", not a number"#
        );
        assert!(
            number("feature", "a", Value::Text("inf"))
                .unwrap_err()
                .contains("finite")
        );
        assert!(
            number("feature", "a", Value::Number(1e300))
                .unwrap_err()
                .contains("finite")
        );
    }

    #[test]
    fn names_that_are_numbers_match_by_value() {
        let mut names = Names::new(&["0".into(), "1.0".into(), "NA".into()]);
        assert_eq!(names.number(Value::Number(0.0)), Some(0.0));
        assert_eq!(names.number(Value::Text("0.0")), Some(0.0));
        assert_eq!(names.number(Value::Text("1")), Some(1.0));
        assert_eq!(names.number(Value::Text(" NA")), Some(2.0));
        assert!(names.number(Value::Missing).unwrap().is_nan());
        assert_eq!(names.number(Value::Text("2")), None);
    }

    #[test]
    fn ids_are_forgotten_after_the_window() {
        let mut seen = Seen::new(2);
        assert_eq!(seen.insert("a", 1), Ok(()));
        assert_eq!(seen.insert("b", 2), Ok(()));
        assert_eq!(seen.insert("a", 3), Err(1));
        assert_eq!(seen.insert("c", 4), Ok(()));
        assert_eq!(seen.insert("a", 5), Ok(()));
        assert_eq!(seen.records.len(), 2);
    }
}
