//! Output to the terminal: lines, tables, numbers and times.

use std::fmt::Display;
use std::io::Write;

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{Cell, CellAlignment, Table};
use jiff::Timestamp;
use serde::Serialize;

use crate::error::Error;

/// Text of a value that is missing.
pub(crate) const NONE: &str = "–";

/// Prints text to standard output. It is no failure if nobody reads it to its end, as with `|
/// head`.
pub(crate) fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// Prints a line to standard output.
pub(crate) fn print_line(line: impl Display) {
    print(&format!("{line}\n"));
}

/// Prints a value as JSON.
pub(crate) fn print_json(value: &impl Serialize) -> Result<(), Error> {
    print(&json(value)?);
    Ok(())
}

/// A value as JSON, with indented lines.
pub(crate) fn json(value: &impl Serialize) -> Result<String, Error> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Error::Failed(error.into()))?;
    Ok(text + "\n")
}

/// An empty table with a header.
pub(crate) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header(header.iter().map(Cell::new));
    table
}

/// A cell that is aligned to the right, for numbers.
pub(crate) fn right(text: impl ToString) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

/// A share or a loss, with four decimals.
pub(crate) fn number(value: Option<f64>) -> String {
    value.map_or(NONE.to_string(), |value| format!("{value:.4}"))
}

/// A difference of shares or losses, with its sign.
pub(crate) fn signed(value: f64) -> String {
    format!("{value:+.4}")
}

/// A time in microseconds since 1970 as date and time, UTC; empty if it is out of range.
pub(crate) fn time(micros: i64) -> String {
    match Timestamp::from_microsecond(micros) {
        Ok(time) => format!("{time:.0}"),
        Err(_) => String::new(),
    }
}
