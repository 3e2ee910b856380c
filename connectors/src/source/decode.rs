//! Decoding of rows to columns, which decides whether a record is good.

use std::sync::Arc;

use ndarray::Array2;
use perennial_operators::flow::SeenIds;
use perennial_operators::{Batch, Dictionary, MISSING, TaskDefinition, TaskLevels, Texts};
use rustc_hash::FxHashMap;

use super::task_numbers::TaskNumbers;
use crate::format::fields::{LabelParser, Names, Seen, check_length, known_id, number, quote};
use crate::format::{Row, TimeParser, Value};
use crate::schema::{Feature, Schema};

/// Rows that a new batch reserves room for at most.
const RESERVED: usize = 4096;

/// Bound on the values of one attribute in a dictionary. Beyond it new dictionaries begin, since
/// the number of new values has no bound.
const MOST_VALUES: usize = 1 << 18;

/// A decoder that appends rows to the columns of a batch. It numbers the good records of the stream
/// and the values of the attributes, and finds duplicate ids.
#[derive(Debug)]
pub struct Decoder {
    cells: Cells,
    clock: TimeParser,
    seen: Seen,
    /// Finds tasks that have the number of another, where that is looked for.
    task_numbers: Option<TaskNumbers>,
    first: u64,
    ids: Texts,
    times: Vec<i64>,
    attributes: Vec<Vec<u32>>,
    dictionaries: Arc<Vec<Dictionary>>,
    /// Number of the dictionaries, which changes when new ones begin.
    generation: u64,
    /// For each attribute: value → code.
    codes: Vec<FxHashMap<Box<str>, u32>>,
    features: Vec<f32>,
    labels: Vec<f32>,
    scratch: String,
}

/// The meaning of the cells of a row.
#[derive(Debug)]
struct Cells {
    columns: Vec<String>,
    id: usize,
    time: usize,
    attributes: Vec<usize>,
    features: Vec<(usize, FeatureKind)>,
    label: Option<(usize, LabelParser)>,
}

/// How a feature's cell becomes a number.
#[derive(Debug)]
enum FeatureKind {
    Numeric,
    Categorical(Names),
}

impl Decoder {
    /// A decoder for a schema without problems. Without `labelled` rows have no label column, and
    /// `Batch::labels` stays empty. An id is a duplicate if one of the last `duplicates_within`
    /// good records had it.
    pub fn new(schema: &Schema, labelled: bool, duplicates_within: usize) -> Decoder {
        let cells = Cells::new(schema, labelled);
        let attributes = cells.attributes.len();
        Decoder {
            cells,
            clock: TimeParser::default(),
            seen: Seen::new(duplicates_within),
            task_numbers: None,
            first: 0,
            ids: Texts::default(),
            times: Vec::new(),
            attributes: vec![Vec::new(); attributes],
            dictionaries: dictionaries(attributes),
            generation: 0,
            codes: vec![FxHashMap::default(); attributes],
            features: Vec::new(),
            labels: Vec::new(),
            scratch: String::new(),
        }
    }

    /// Goes on after `first` good records, of which the latest had the ids `seen`.
    pub(super) fn continue_from(&mut self, first: u64, seen: &[(u64, u64)]) {
        self.first = first;
        self.seen.resume(seen);
    }

    /// Makes a row bad whose task has the number of another task.
    pub(super) fn check_tasks(&mut self, levels: &TaskLevels, tasks: &[TaskDefinition]) {
        self.task_numbers = Some(TaskNumbers::new(levels, tasks));
    }

    /// Takes the ids of the good rows since the last call.
    pub(super) fn take_seen(&mut self) -> SeenIds {
        self.seen.take_new()
    }

    /// The latest good row since the last [`Decoder::take`]: sequence number and id.
    pub(super) fn latest(&self) -> Option<(u64, &str)> {
        let row = self.times.len().checked_sub(1)?;
        Some((self.first + row as u64, self.ids.get(row)))
    }

    /// The columns of a row, in the order of its cells.
    pub fn columns(&self) -> &[String] {
        &self.cells.columns
    }

    /// Appends a row. `record` is the record's number at its source, from 1.
    ///
    /// # Errors
    /// The record is bad: the reason. The decoder is then unchanged.
    pub fn push(&mut self, row: &Row, record: u64) -> Result<(), String> {
        self.push_before(row, record, i64::MAX)
    }

    /// Appends a row as [`Decoder::push`] does; an event time after `latest` (microseconds since
    /// 1970) makes the record bad too.
    pub fn push_before(&mut self, row: &Row, record: u64, latest: i64) -> Result<(), String> {
        let start = self.features.len();
        let result = self.append(row, record, latest);
        if result.is_err() {
            self.features.truncate(start);
        }
        result
    }

    fn append(&mut self, row: &Row, record: u64, latest: i64) -> Result<(), String> {
        let cells = &mut self.cells;
        let columns = &cells.columns;
        let time = self.clock.read(&columns[cells.time], row.get(cells.time))?;
        if time > latest {
            return Err(format!(
                "time {:?} is {}, which is still to come",
                columns[cells.time],
                quote(row.get(cells.time))
            ));
        }
        for cell in &cells.attributes {
            check_length("attribute", &columns[*cell], row.get(*cell))?;
        }
        if let Some(numbers) = &mut self.task_numbers {
            numbers.check(row, &cells.attributes, &mut self.scratch)?;
        }
        for (cell, kind) in &mut cells.features {
            let value = row.get(*cell);
            self.features.push(match kind {
                FeatureKind::Numeric => number("feature", &columns[*cell], value)?,
                FeatureKind::Categorical(names) => names.number(value).unwrap_or(f32::NAN),
            });
        }
        let label = match &mut cells.label {
            Some((cell, labels)) => Some(labels.read(&columns[*cell], row.get(*cell))?),
            None => None,
        };
        let id = new_id(
            row.get(cells.id),
            &columns[cells.id],
            &mut self.scratch,
            &mut self.seen,
            record,
        )?;

        // The record is good; nothing below can fail.
        self.ids.push(id);
        self.times.push(time);
        self.labels.extend(label);
        for (column, cell) in cells.attributes.iter().enumerate() {
            let value = row.get(*cell).text(&mut self.scratch);
            let codes = &mut self.codes[column];
            let code = match codes.get(value) {
                _ if value.is_empty() => MISSING,
                Some(code) => *code,
                None => {
                    let code = self.dictionaries[column].push(value);
                    codes.insert(value.into(), code);
                    code
                }
            };
            self.attributes[column].push(code);
        }
        Ok(())
    }

    /// Begins new dictionaries if one has too many values.
    fn renew_codes(&mut self) {
        if self.codes.iter().any(|codes| codes.len() > MOST_VALUES) {
            self.codes.iter_mut().for_each(FxHashMap::clear);
            self.dictionaries = dictionaries(self.codes.len());
            self.generation += 1;
        }
    }

    /// Takes the rows since the last call as a batch.
    pub fn take(&mut self) -> Batch {
        let rows = self.times.len();
        let width = self.cells.features.len();
        let reserved = rows.min(RESERVED);
        let attributes = self
            .attributes
            .iter_mut()
            .map(|codes| renew(codes, reserved))
            .collect();
        let features = renew(&mut self.features, reserved * width);
        let batch = Batch {
            first: self.first,
            ids: std::mem::take(&mut self.ids),
            times: renew(&mut self.times, reserved),
            attributes,
            dictionaries: self.dictionaries.clone(),
            generation: self.generation,
            // The lengths match, since a row adds all its features or none.
            features: Array2::from_shape_vec((rows, width), features)
                .unwrap_or_else(|_| Array2::from_elem((rows, width), f32::NAN)),
            labels: renew(&mut self.labels, reserved),
            metadata: None,
        };
        self.first += rows as u64;
        self.renew_codes();
        batch
    }
}

/// A dictionary for each attribute, shared by the batches.
fn dictionaries(attributes: usize) -> Arc<Vec<Dictionary>> {
    Arc::new((0..attributes).map(|_| Dictionary::default()).collect())
}

/// Takes a column and begins the next one.
fn renew<T>(column: &mut Vec<T>, reserved: usize) -> Vec<T> {
    let reserved = if column.is_empty() { 0 } else { reserved };
    std::mem::replace(column, Vec::with_capacity(reserved))
}

/// The id of a record, which must be present and new, and is then known.
pub(super) fn new_id<'a>(
    value: Value<'a>,
    column: &str,
    scratch: &'a mut String,
    seen: &mut Seen,
    record: u64,
) -> Result<&'a str, String> {
    let id = known_id(column, value, scratch)?;
    seen.insert(id, record)
        .map_err(|first| format!("id {id:?} was seen before, at record {first}"))?;
    Ok(id)
}

impl Cells {
    fn new(schema: &Schema, labelled: bool) -> Cells {
        let mut columns: Vec<String> = Vec::new();
        // A column may have several uses, such as a site that is also a feature.
        let mut cell = |name: &str| {
            columns.iter().position(|c| c == name).unwrap_or_else(|| {
                columns.push(name.into());
                columns.len() - 1
            })
        };
        let id = cell(&schema.id);
        let time = cell(&schema.time);
        let attributes = schema.attribute_names().map(&mut cell).collect();
        let mut features = Vec::new();
        for feature in &schema.features {
            let kind = match feature {
                Feature::Numeric(_) => FeatureKind::Numeric,
                Feature::Categorical(categorical) => {
                    FeatureKind::Categorical(Names::new(&categorical.values))
                }
            };
            features.push((cell(feature.column()), kind));
        }
        let label = match &schema.label {
            Some(label) if labelled => Some((cell(&label.column), LabelParser::new(label))),
            _ => None,
        };
        Cells {
            columns,
            id,
            time,
            attributes,
            features,
            label,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoder(labelled: bool) -> Decoder {
        let schema = r#"{"id":"id","time":"time","site":"site","attributes":["season"],
            "features":["ta",{"column":"mode","values":["fan","ac"]}],
            "label":{"column":"vote","classes":["cold","hot"]}}"#;
        Decoder::new(&serde_json::from_str(schema).unwrap(), labelled, 10)
    }

    fn push(decoder: &mut Decoder, cells: [&str; 7], record: u64) -> Result<(), String> {
        let mut row = Row::new(decoder.columns().len());
        for (cell, text) in cells.iter().enumerate().take(decoder.columns().len()) {
            row.set_text(cell, text);
        }
        decoder.push(&row, record)
    }

    #[test]
    fn rows_become_columns() {
        let mut decoder = decoder(true);
        assert_eq!(
            decoder.columns(),
            ["id", "time", "site", "season", "ta", "mode", "vote"]
        );
        push(&mut decoder, ["a", "1", "s1", "dry", "2.5", "ac", "hot"], 1).unwrap();
        push(&mut decoder, ["b", "2", "", "wet", "", "tv", ""], 2).unwrap();
        let batch = decoder.take();
        assert_eq!((batch.first, batch.len()), (0, 2));
        assert_eq!(batch.ids.get(1), "b");
        assert_eq!(batch.times, [1_000_000, 2_000_000]);
        assert_eq!(batch.attribute(0, 0), "s1");
        assert_eq!(batch.attributes[0][1], perennial_operators::MISSING);
        assert_eq!(batch.attribute(1, 1), "wet");
        assert_eq!(batch.features[[0, 1]], 1.0);
        assert!(batch.features.row(1).iter().all(|f| f.is_nan()));
        assert_eq!(batch.labels[0], 1.0);
        assert!(batch.labels[1].is_nan());
        push(&mut decoder, ["c", "2", "s2", "dry", "1", "fan", "cold"], 3).unwrap();
        let next = decoder.take();
        assert_eq!(next.first, 2);
        assert_eq!(next.attribute(0, 0), "s2");
        // An earlier batch shares the dictionary, and its codes keep their meaning.
        assert_eq!(
            (batch.attribute(0, 0), batch.dictionaries[0].len()),
            ("s1", 2)
        );
    }

    #[test]
    fn bad_rows_give_a_reason_and_leave_no_trace() {
        let mut decoder = decoder(true);
        push(&mut decoder, ["a", "1", "s", "dry", "1", "ac", "hot"], 7).unwrap();
        let long = "x".repeat(2000);
        let cases: [([&str; 7], &str); 8] = [
            (
                ["", "1", "n", "x", "1", "ac", "hot"],
                r#"id "id" is missing"#,
            ),
            (
                ["b", "", "n", "x", "1", "ac", "hot"],
                r#"time "time" is missing"#,
            ),
            (
                ["b", "soon", "n", "x", "1", "ac", "hot"],
                r#"time "time" is "soon""#,
            ),
            (
                ["b", "1", "n", "x", "abc", "ac", "hot"],
                r#"feature "ta" is "abc", not a number"#,
            ),
            (
                ["b", "1", "n", "x", "-inf", "ac", "hot"],
                r#"feature "ta" is "-inf", not a finite"#,
            ),
            (
                ["b", "1", "n", "x", "1", "ac", "mild"],
                r#"label "vote" is "mild""#,
            ),
            (
                ["b", "1", &long, "x", "1", "ac", "hot"],
                r#"attribute "site" has 2000 bytes"#,
            ),
            (
                ["a", "1", "n", "x", "1", "ac", "hot"],
                r#"id "a" was seen before, at record 7"#,
            ),
        ];
        for (cells, expected) in cases {
            let reason = push(&mut decoder, cells, 8).unwrap_err();
            assert!(reason.starts_with(expected), "{reason}");
        }
        let batch = decoder.take();
        assert_eq!(
            (batch.len(), batch.features.len(), batch.labels.len()),
            (1, 2, 1)
        );
        assert_eq!(batch.dictionaries[0].len(), 1);
        // An id is only taken by a good record.
        push(&mut decoder, ["b", "1", "s", "dry", "1", "ac", "hot"], 9).unwrap();
    }

    #[test]
    fn ids_of_an_earlier_run_are_duplicates() {
        let cells = |id| [id, "1", "s", "dry", "1", "ac", "hot"];
        let mut first = decoder(true);
        first.continue_from(0, &[]);
        push(&mut first, cells("a"), 7).unwrap();
        push(&mut first, cells("b"), 8).unwrap();
        let seen = first.take_seen();
        assert_eq!((seen.ids.len(), seen.within), (2, 10));
        let mut second = decoder(true);
        second.continue_from(2, &seen.ids);
        let reason = push(&mut second, cells("b"), 9).unwrap_err();
        assert_eq!(reason, r#"id "b" was seen before, at record 8"#);
        push(&mut second, cells("c"), 10).unwrap();
        assert_eq!(second.take_seen().ids.len(), 1);
        // Older ones than count are forgotten.
        let stored: Vec<(u64, u64)> = (0..12).map(|number| (number, 1)).collect();
        let stored = [&seen.ids[..], &stored[..]].concat();
        let mut third = decoder(true);
        third.continue_from(14, &stored);
        push(&mut third, cells("a"), 11).unwrap();
    }

    #[test]
    fn labels_from_elsewhere_need_no_column() {
        let mut decoder = decoder(false);
        assert_eq!(decoder.columns().len(), 6);
        push(&mut decoder, ["a", "1", "s", "dry", "1", "ac", ""], 1).unwrap();
        assert!(decoder.take().labels.is_empty());
    }
}
