//! A profile of records: what the values of each column are.

use std::collections::BTreeMap;
use std::hash::Hasher;

use rustc_hash::{FxHashSet, FxHasher};

use super::error::SourceError;
use super::rows::{Next, Rows};
use crate::format::fields::{is_missing, truth};
use crate::format::{Row, TimeParser, Value};

/// Bound on the distinct values that are kept of a column.
const MOST_VALUES: usize = 1_000;

/// The years 1990 to 2100, microseconds since 1970.
const RECENT: std::ops::Range<i64> = 631_152_000_000_000..4_133_980_800_000_000;

/// The profile of a column: what its values are.
#[derive(Clone, Debug, Default)]
pub struct ColumnProfile {
    /// The column's name.
    pub name: String,
    /// Number of records that have a value.
    pub filled: u64,
    /// Number of values that are numbers, booleans included.
    pub numbers: u64,
    /// Number of values that are whole numbers.
    pub whole: u64,
    /// Number of values that are written as a date or a time.
    pub dates: u64,
    /// Number of values that can be read as a time: dates, and Unix seconds.
    pub times: u64,
    /// Number of times from 1990 to 2100.
    pub recent: u64,
    /// How often each value occurs. At most 1,000 values are kept.
    pub values: BTreeMap<String, u64>,
    /// Whether there are more values than those.
    pub has_more: bool,
    /// Whether no value has occurred twice.
    pub is_unique: bool,
    /// Hashes of the values, while none has occurred twice.
    hashes: FxHashSet<u64>,
}

impl ColumnProfile {
    /// Whether every value is a number.
    pub fn is_numeric(&self) -> bool {
        self.filled > 0 && self.numbers == self.filled
    }

    fn new(name: &str) -> ColumnProfile {
        ColumnProfile {
            name: name.to_string(),
            is_unique: true,
            ..ColumnProfile::default()
        }
    }

    fn add(&mut self, value: Value, times: &mut TimeParser, scratch: &mut String) {
        let text = value.text(scratch).trim();
        if is_missing(text) {
            return;
        }
        self.filled += 1;
        let number = truth(text).or_else(|| text.parse::<f64>().ok());
        if let Some(number) = number.filter(|_| !matches!(value, Value::Time(_))) {
            self.numbers += 1;
            self.whole += u64::from(number.fract() == 0.0);
        }
        if let Ok(micros) = times.read(&self.name, value) {
            self.times += 1;
            self.dates += u64::from(number.is_none());
            self.recent += u64::from(RECENT.contains(&micros));
        }
        if self.is_unique {
            self.is_unique = self.hashes.insert(hash(text));
            if !self.is_unique {
                self.hashes = FxHashSet::default();
            }
        }
        if let Some(count) = self.values.get_mut(text) {
            *count += 1;
        } else if self.values.len() < MOST_VALUES {
            self.values.insert(text.to_string(), 1);
        } else {
            self.has_more = true;
        }
    }
}

/// The profile of records.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Their columns.
    pub columns: Vec<ColumnProfile>,
    /// Number of good records that were looked at.
    pub records: u64,
    /// Whether there are more.
    pub has_more: bool,
}

/// The mean number of different values that each column after the first has, in records of one
/// value of the first column; among the first `most` records. Bad records are left out.
///
/// # Errors
/// The source cannot be read any further.
pub fn values_within(
    rows: &mut dyn Rows,
    columns: usize,
    most: u64,
) -> Result<Vec<f64>, SourceError> {
    let mut row = Row::new(columns);
    let mut scratch = String::new();
    let mut seen: Vec<FxHashSet<(u64, u64)>> = vec![FxHashSet::default(); columns];
    for _ in 0..most {
        match rows.next(&mut row)? {
            Next::End => break,
            Next::Bad(_) => continue,
            Next::Record => {}
        }
        let mut hash = |cell| hash(row.get(cell).text(&mut scratch).trim());
        let group = hash(0);
        for (cell, seen) in seen.iter_mut().enumerate() {
            seen.insert((group, hash(cell)));
        }
    }
    // The pairs of the first column with itself are its values.
    let groups = seen.first().map_or(0, FxHashSet::len).max(1) as f64;
    let within = seen.iter().skip(1).map(|pairs| pairs.len() as f64 / groups);
    Ok(within.collect())
}

fn hash(text: &str) -> u64 {
    let mut hasher = FxHasher::default();
    hasher.write(text.as_bytes());
    hasher.finish()
}

/// Profiles the first `most` records, whose cells are `columns`. Bad records are left out.
///
/// # Errors
/// The source cannot be read any further.
pub fn profile(rows: &mut dyn Rows, columns: &[String], most: u64) -> Result<Profile, SourceError> {
    let mut found: Vec<ColumnProfile> = columns
        .iter()
        .map(|name| ColumnProfile::new(name))
        .collect();
    let mut times: Vec<TimeParser> = columns.iter().map(|_| TimeParser::default()).collect();
    let (mut row, mut scratch) = (Row::new(columns.len()), String::new());
    let mut records = 0;
    let has_more = loop {
        match rows.next(&mut row)? {
            Next::End => break false,
            Next::Bad(_) => continue,
            Next::Record if records == most => break true,
            Next::Record => records += 1,
        }
        for (cell, (column, times)) in found.iter_mut().zip(&mut times).enumerate() {
            column.add(row.get(cell), times, &mut scratch);
        }
    };
    for column in &mut found {
        column.is_unique &= column.filled > 0;
        column.hashes = FxHashSet::default();
    }
    Ok(Profile {
        columns: found,
        records,
        has_more,
    })
}
