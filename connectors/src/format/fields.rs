//! Values of single columns: numbers, names out of a list, labels, ids.

use std::collections::VecDeque;
use std::collections::hash_map::Entry;

use perennial_operators::flow::SeenIds;
use perennial_operators::{LARGEST_FEATURE, LARGEST_NUMBER, LabelKind, id_number};
use rustc_hash::FxHashMap;

use super::Value;
use crate::schema::Label;

/// The longest id or attribute value in bytes, which bounds a batch's texts and the dictionaries.
const MAX_TEXT: usize = 1024;

/// Characters of a bad value that a reason quotes.
const QUOTED: usize = 60;

/// Spellings of the booleans, true first: of JSON, of Python, of R and spreadsheets.
const BOOLEANS: [[&str; 2]; 3] = [["true", "false"], ["True", "False"], ["TRUE", "FALSE"]];

/// Texts that other programs write for booleans, which are too short or too common to be read as
/// such.
const LIKE_BOOLEANS: [&str; 8] = ["t", "f", "y", "n", "yes", "no", "on", "off"];

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
pub(crate) fn is_missing(text: &str) -> bool {
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
            text if is_missing(text) => return Ok(f32::NAN),
            text => match text.parse::<f64>() {
                Ok(number) => number,
                Err(_) => truth(text).ok_or_else(|| {
                    let is_boolean = LIKE_BOOLEANS
                        .iter()
                        .any(|like| text.eq_ignore_ascii_case(like));
                    let hint = if is_boolean {
                        ": write a boolean as true or false"
                    } else {
                        ""
                    };
                    format!("{what} {column:?} is {}, not a number{hint}", quote(value))
                })?,
            },
        },
    };
    let number = number as f32;
    if number.is_infinite() {
        return Err(format!(
            "{what} {column:?} is {}, not a finite 32-bit number",
            quote(value)
        ));
    }
    if number.abs() > LARGEST_FEATURE {
        return Err(format!(
            "{what} {column:?} is {}, but numbers go up to {LARGEST_FEATURE:e}: leave a missing value empty",
            quote(value)
        ));
    }
    Ok(number)
}

/// 1 for true and 0 for false, in any of their spellings.
pub(crate) fn truth(text: &str) -> Option<f64> {
    let spellings = BOOLEANS.iter();
    let is = |place: usize| spellings.clone().any(|spelling| spelling[place] == text);
    match (is(0), is(1)) {
        (true, _) => Some(1.0),
        (_, true) => Some(0.0),
        _ => None,
    }
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
        // They also spell booleans in their own way.
        for (i, name) in names.iter().enumerate() {
            let place = truth(name).map(|truth| usize::from(truth == 0.0));
            for spelling in place
                .iter()
                .flat_map(|place| BOOLEANS.map(|both| both[*place]))
            {
                numbers.entry(spelling.to_string()).or_insert(i as f32);
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

    #[test]
    fn numbers_and_texts_that_are_none() {
        for text in ["", "NaN", "NA", " ", "null"] {
            assert!(
                number("feature", "a", Value::Text(text)).unwrap().is_nan(),
                "{text:?}"
            );
        }
        assert_eq!(number("feature", "a", Value::Text(" -1.5e3 ")), Ok(-1500.0));
        for (text, truth) in [("true", 1.0), ("False", 0.0), (" TRUE", 1.0)] {
            assert_eq!(number("feature", "a", Value::Text(text)), Ok(truth));
        }
        let f = number("feature", "a", Value::Text("f")).unwrap_err();
        assert!(f.ends_with("true or false"), "{f}");
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
        // What a trainer cannot take, such as the largest float as a mark of "no value".
        let largest = number("feature", "a", Value::Number(f64::from(f32::MAX))).unwrap_err();
        assert!(largest.contains("numbers go up to 1e38"), "{largest}");
        assert_eq!(number("feature", "a", Value::Text("-1e38")), Ok(-1e38));
    }

    #[test]
    fn names_that_are_booleans_match_in_any_spelling() {
        let mut names = Names::new(&["false".into(), "TRUE".into()]);
        assert_eq!(names.number(Value::Text("False")), Some(0.0));
        assert_eq!(names.number(Value::Text("true ")), Some(1.0));
        assert_eq!(names.number(Value::Text("t")), None);
        // A spelling that is a name of its own stays one.
        let mut names = Names::new(&["true".into(), "True".into()]);
        assert_eq!(names.number(Value::Text("True")), Some(1.0));
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
