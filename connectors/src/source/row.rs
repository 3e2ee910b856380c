//! One record between its format and the columns: reused, so that a record allocates nothing.

use std::fmt::Write;

/// Integers beyond this are kept as texts, since a float would not hold them exactly.
const EXACT: u64 = 1 << 53;

/// The wanted cells of one record. Which cell is which column is up to who made the row.
#[derive(Debug, Default)]
pub struct Row {
    cells: Vec<Cell>,
    text: String,
}

#[derive(Clone, Copy, Debug)]
enum Cell {
    Missing,
    Text { start: usize, end: usize },
    Number(f64),
    Time(i64),
}

/// What a cell holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// Nothing: empty, null or absent.
    Missing,
    /// A text that is not empty.
    Text(&'a str),
    /// A number.
    Number(f64),
    /// An instant, microseconds since 1970-01-01 UTC.
    Time(i64),
}

impl Row {
    /// A row of so many cells, all missing.
    pub fn new(columns: usize) -> Row {
        Row {
            cells: vec![Cell::Missing; columns],
            text: String::new(),
        }
    }

    /// Makes all cells missing.
    pub fn clear(&mut self) {
        self.cells.fill(Cell::Missing);
        self.text.clear();
    }

    /// Makes all cells missing and takes in a text that [`Row::set_range`] can point into.
    pub fn load(&mut self, text: &str) {
        self.clear();
        self.text.push_str(text);
    }

    /// Sets a cell to a piece of the loaded text.
    pub fn set_range(&mut self, cell: usize, start: usize, end: usize) {
        self.cells[cell] = Cell::Text { start, end };
    }

    /// Sets a cell to a text.
    pub fn set_text(&mut self, cell: usize, text: &str) {
        let start = self.text.len();
        self.text.push_str(text);
        self.cells[cell] = Cell::Text {
            start,
            end: self.text.len(),
        };
    }

    /// Sets a cell to a number.
    pub fn set_number(&mut self, cell: usize, number: f64) {
        self.cells[cell] = Cell::Number(number);
    }

    /// Sets a cell to an integer, whose digits are kept however many there are.
    pub fn set_integer(&mut self, cell: usize, integer: i128) {
        if integer.unsigned_abs() <= u128::from(EXACT) {
            return self.set_number(cell, integer as f64);
        }
        let start = self.text.len();
        // Writing to a String cannot fail.
        let _ = write!(self.text, "{integer}");
        self.cells[cell] = Cell::Text {
            start,
            end: self.text.len(),
        };
    }

    /// Sets a cell to `true` or `false`.
    pub fn set_bool(&mut self, cell: usize, value: bool) {
        self.set_text(cell, if value { "true" } else { "false" });
    }

    /// Sets a cell to an instant, microseconds since 1970-01-01 UTC.
    pub fn set_time(&mut self, cell: usize, micros: i64) {
        self.cells[cell] = Cell::Time(micros);
    }

    /// Makes a cell missing.
    pub fn set_missing(&mut self, cell: usize) {
        self.cells[cell] = Cell::Missing;
    }

    /// What a cell holds.
    pub fn get(&self, cell: usize) -> Value<'_> {
        match self.cells[cell] {
            Cell::Missing => Value::Missing,
            Cell::Text { start, end } if start == end => Value::Missing,
            Cell::Text { start, end } => Value::Text(&self.text[start..end]),
            Cell::Number(number) => Value::Number(number),
            Cell::Time(micros) => Value::Time(micros),
        }
    }
}

impl<'a> Value<'a> {
    /// The value as a text, empty when missing: numbers in their shortest form (`3`, not `3.0`), instants
    /// as RFC 3339. `scratch` holds what has to be written for it.
    pub fn text<'b>(self, scratch: &'b mut String) -> &'b str
    where
        'a: 'b,
    {
        scratch.clear();
        let written = match self {
            Value::Missing => Ok(()),
            Value::Text(text) => return text,
            Value::Number(number) => write!(scratch, "{number}"),
            Value::Time(micros) => match jiff::Timestamp::from_microsecond(micros) {
                Ok(time) => write!(scratch, "{time}"),
                Err(_) => write!(scratch, "{micros}"),
            },
        };
        debug_assert!(written.is_ok(), "writing to a String cannot fail");
        scratch
    }
}
