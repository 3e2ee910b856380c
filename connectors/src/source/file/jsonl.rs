//! JSON Lines: one object a line, written straight into the row.

use std::fmt;

use rustc_hash::FxHashMap;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::text::{self, Input, Line};
use super::{Next, Records, excerpt};
use crate::source::row::Row;

/// The records of a file of JSON Lines. Blank lines are no records.
pub(super) struct JsonRecords {
    input: Input,
    parser: JsonParser,
    content: Vec<u8>,
    line: u64,
}

impl JsonRecords {
    pub(super) fn new(input: Input, columns: &[String]) -> JsonRecords {
        JsonRecords {
            input,
            parser: JsonParser::new(columns),
            content: Vec::new(),
            line: 0,
        }
    }

    /// Reads the next line that is not blank.
    fn advance(&mut self) -> Result<Line, String> {
        loop {
            self.line = self.input.line;
            let line = self
                .input
                .read_line(&mut self.content)
                .map_err(|error| text::explain(&error))?;
            if line != Line::Whole || !self.content.trim_ascii().is_empty() {
                return Ok(line);
            }
        }
    }
}

impl Records for JsonRecords {
    fn next(&mut self, row: &mut Row) -> Result<Next, String> {
        match self.advance()? {
            Line::End => Ok(Next::End),
            Line::TooLong => Ok(Next::Bad(self.input.too_long())),
            Line::Whole => {
                let parsed = self.parser.parse(&self.content, row);
                Ok(parsed.map_or_else(Next::Bad, |()| Next::Record))
            }
        }
    }

    fn number(&self) -> u64 {
        self.line
    }

    fn content(&self, _: &Row) -> String {
        excerpt(&self.content)
    }

    fn count(&mut self) -> Result<u64, String> {
        let mut records = 0;
        while self.advance()? != Line::End {
            records += 1;
        }
        Ok(records)
    }
}

/// Reads JSON objects into rows. Keys that are no column are passed over.
#[derive(Debug)]
pub struct JsonParser {
    columns: Vec<String>,
    cells: FxHashMap<String, usize>,
}

impl JsonParser {
    /// A parser for rows with these columns as cells.
    pub fn new(columns: &[String]) -> JsonParser {
        let cells = columns
            .iter()
            .enumerate()
            .map(|(cell, name)| (name.clone(), cell))
            .collect();
        JsonParser {
            columns: columns.to_vec(),
            cells,
        }
    }

    /// Fills the row from the text of one object, or says in a sentence why that cannot be.
    pub fn parse(&self, text: &[u8], row: &mut Row) -> Result<(), String> {
        row.clear();
        let mut nested = None;
        let mut deserializer = serde_json::Deserializer::from_slice(text);
        let object = Object {
            cells: &self.cells,
            row,
            nested: &mut nested,
        };
        let parsed = object
            .deserialize(&mut deserializer)
            .and_then(|()| deserializer.end());
        parsed.map_err(|error| reason(&error))?;
        match nested {
            Some(cell) => Err(format!(
                "column {:?} holds a list or an object, not a value",
                self.columns[cell]
            )),
            None => Ok(()),
        }
    }
}

/// The parser's complaint. The place within a line is enough, as the line is known.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let what = text.strip_suffix(&place).unwrap_or(&text);
    format!(
        "the record is not a JSON object: {what} at byte {}",
        error.column()
    )
}

/// The object of one record.
struct Object<'a> {
    cells: &'a FxHashMap<String, usize>,
    row: &'a mut Row,
    /// A cell that holds a list or an object.
    nested: &'a mut Option<usize>,
}

impl<'de> DeserializeSeed<'de> for Object<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(cell) = map.next_key_seed(Key(self.cells))? {
            match cell {
                Some(cell) => map.next_value_seed(CellValue {
                    cell,
                    row: self.row,
                    nested: self.nested,
                })?,
                None => map.next_value::<IgnoredAny>().map(drop)?,
            }
        }
        Ok(())
    }
}

/// A key, looked up without a copy of it.
struct Key<'a>(&'a FxHashMap<String, usize>);

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<usize>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Option<usize>, E> {
        Ok(self.0.get(key).copied())
    }
}

/// The value of a wanted key.
struct CellValue<'a> {
    cell: usize,
    row: &'a mut Row,
    nested: &'a mut Option<usize>,
}

impl<'de> DeserializeSeed<'de> for CellValue<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for CellValue<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.row.set_missing(self.cell);
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.row.set_bool(self.cell, value);
        Ok(())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.row.set_integer(self.cell, value.into());
        Ok(())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.row.set_integer(self.cell, value.into());
        Ok(())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.row.set_number(self.cell, value);
        Ok(())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.row.set_text(self.cell, value);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        *self.nested = Some(self.cell);
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        *self.nested = Some(self.cell);
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(())
    }
}
