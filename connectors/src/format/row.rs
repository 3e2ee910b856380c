//! One record between its format and the columns; it is reused, so that a record allocates nothing.

use std::fmt;
use std::fmt::Write;

/// Integers above this are kept as texts, since a float would not hold them exactly.
const EXACT: u64 = 1 << 53;

/// The greatest power of ten that a float holds exactly.
const EXACT_POWER: u32 = 22;

/// The wanted cells of one record. The creator of the row decides which cell is which column.
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

/// The value of a cell.
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
    /// A row of `columns` cells, all missing.
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

    /// Makes all cells missing and loads a text that [`Row::set_range`] can point into.
    pub fn load(&mut self, text: &str) {
        self.clear();
        self.text.push_str(text);
    }

    /// Sets a cell to a piece of the loaded text.
    pub fn set_range(&mut self, cell: usize, start: usize, end: usize) {
        self.cells[cell] = Cell::Text { start, end };
    }

    /// Whether a cell holds a number so large that it may stand for an integer that was rounded.
    pub(super) fn is_rounded(&self, cell: usize) -> bool {
        let largest = u64::MAX as f64;
        matches!(self.cells[cell], Cell::Number(number) if number.abs() >= largest / 2.0)
    }

    /// Whether any cell holds such a number.
    pub(super) fn has_rounded(&self) -> bool {
        (0..self.cells.len()).any(|cell| self.is_rounded(cell))
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

    /// Sets a cell to an integer; all its digits are kept.
    pub fn set_integer(&mut self, cell: usize, integer: i128) {
        if integer.unsigned_abs() <= u128::from(EXACT) {
            return self.set_number(cell, integer as f64);
        }
        self.set_written(cell, format_args!("{integer}"));
    }

    /// Sets a cell to a decimal number: the last `scale` digits of `integer` come after the point.
    /// `None`, with the cell unchanged, if `scale` is above 38.
    pub fn set_decimal(&mut self, cell: usize, integer: i128, scale: u32) -> Option<()> {
        let one = 10i128.checked_pow(scale)?;
        // Both are exact as floats, so their quotient is the nearest one.
        if integer.unsigned_abs() <= u128::from(EXACT) && scale <= EXACT_POWER {
            self.set_number(cell, integer as f64 / one as f64);
            return Some(());
        }
        let sign = if integer < 0 { "-" } else { "" };
        let (whole, part) = (integer / one, integer % one);
        if part == 0 {
            self.set_integer(cell, whole);
        } else {
            let (whole, part) = (whole.unsigned_abs(), part.unsigned_abs());
            let width = scale as usize;
            self.set_written(cell, format_args!("{sign}{whole}.{part:0width$}"));
        }
        Some(())
    }

    /// Sets a cell to a UUID as a text of hexadecimal digits with hyphens.
    pub fn set_uuid(&mut self, cell: usize, uuid: u128) {
        let [a, b, c, d] = [96, 80, 64, 48].map(|shift| uuid >> shift);
        self.set_written(
            cell,
            format_args!(
                "{a:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
                b & 0xffff,
                c & 0xffff,
                d & 0xffff,
                uuid & 0xffff_ffff_ffff
            ),
        );
    }

    /// Sets a cell to a formatted text.
    pub(crate) fn set_written(&mut self, cell: usize, text: fmt::Arguments) {
        let start = self.text.len();
        // Writing to a String cannot fail.
        let _ = self.text.write_fmt(text);
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

    /// The value of a cell.
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
    /// The value as a text, empty if missing: numbers in their shortest form (`3`, not `3.0`),
    /// instants as RFC 3339. `scratch` is the buffer for a text that has to be written.
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
