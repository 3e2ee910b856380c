//! JSON objects parsed straight into a row.

use std::fmt;

use rustc_hash::FxHashMap;
use serde::de::{DeserializeSeed, Deserializer, Error, Visitor};
use serde_json::value::RawValue;

use super::Row;
use super::object::{Keys, Object, Place};

/// Parses JSON objects into rows. Keys that are no column are ignored.
#[derive(Debug)]
pub struct JsonParser {
    columns: Vec<String>,
    places: FxHashMap<String, Place>,
}

impl JsonParser {
    /// A parser for rows with these columns as cells.
    pub fn new(columns: &[String]) -> JsonParser {
        let places = columns
            .iter()
            .enumerate()
            .map(|(cell, name)| (name.clone(), Place::plain(cell)))
            .collect();
        JsonParser {
            columns: columns.to_vec(),
            places,
        }
    }

    /// Fills the row from the text of one object.
    ///
    /// # Errors
    /// The text is no such object: the reason.
    pub fn parse(&self, text: &[u8], row: &mut Row) -> Result<(), String> {
        row.clear();
        let mut unfit = None;
        let mut deserializer = serde_json::Deserializer::from_slice(text);
        let object = Object {
            keys: ByName(&self.places),
            row,
            unfit: &mut unfit,
        };
        let parsed = object
            .deserialize(&mut deserializer)
            .and_then(|()| deserializer.end());
        parsed.map_err(|error| reason(&error))?;
        if row.has_rounded() {
            self.spell_integers(text, row)
                .map_err(|error| reason(&error))?;
        }
        match unfit {
            Some(unfit) => Err(unfit.reason(&self.columns)),
            None => Ok(()),
        }
    }
}

impl JsonParser {
    /// Replaces integers that were rounded to floats by their digits, so that ids stay what they
    /// are. Few records have any, so the text is parsed again.
    fn spell_integers(&self, text: &[u8], row: &mut Row) -> Result<(), serde_json::Error> {
        let values: FxHashMap<String, &RawValue> = serde_json::from_slice(text)?;
        for (cell, name) in self.columns.iter().enumerate() {
            let Some(value) = values.get(name).filter(|_| row.is_rounded(cell)) else {
                continue;
            };
            let digits = value.get().strip_prefix('-').unwrap_or(value.get());
            if digits.bytes().all(|byte| byte.is_ascii_digit()) {
                row.set_text(cell, value.get());
            }
        }
        Ok(())
    }
}

/// The parser's error with the place within the line; the line itself is known elsewhere.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let what = text.strip_suffix(&place).unwrap_or(&text);
    format!(
        "the record is not a JSON object: {what} at byte {}",
        error.column()
    )
}

/// Keys in any order, each looked up by its name without a copy.
struct ByName<'a>(&'a FxHashMap<String, Place>);

impl<'a> Keys<'a> for ByName<'a> {
    fn place<'de, D: Deserializer<'de>>(&mut self, key: D) -> Result<Option<&'a Place>, D::Error> {
        key.deserialize_str(ByName(self.0))
    }
}

impl<'a> Visitor<'_> for ByName<'a> {
    type Value = Option<&'a Place>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Option<&'a Place>, E> {
        Ok(self.0.get(key))
    }
}
