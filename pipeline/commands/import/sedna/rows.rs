//! A copy of a file with the columns that Perennial needs and Sedna does not: id, time and site.

use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use perennial_connectors::format::Row;
use perennial_connectors::source::Next;
use perennial_connectors::source::file::{self, FileConfig};

use crate::error::Error;

/// The columns, in the order in which a copy has them.
pub(super) const ADDED: [&str; 3] = ["id", "time", "site"];

/// When the first row was taken, if nobody knows; each further one is a second later.
const FIRST: i64 = 1_577_836_800; // 2020-01-01

/// Writes a CSV copy of a file to `to`, with those of [`ADDED`] that it lacks: the number of the
/// row, a time, and `site`.
pub(super) fn write_copy(from: &Path, to: &Path, site: &str) -> Result<(), Error> {
    let config = FileConfig::new(from);
    let columns = file::columns(&config)?;
    let is_added = ADDED.map(|name| !columns.iter().any(|column| column == name));
    let added = |values: [String; 3]| {
        let values = values.into_iter().zip(is_added);
        values.filter_map(|(value, is_added)| is_added.then_some(value))
    };
    let mut rows = file::open_rows(&config, &columns)?;
    let mut writer = csv::Writer::from_path(to).map_err(|error| failed(to, error))?;
    let header = added(ADDED.map(str::to_string)).chain(columns.iter().cloned());
    writer
        .write_record(header)
        .map_err(|error| failed(to, error))?;
    let (mut row, mut scratch) = (Row::new(columns.len()), String::new());
    let mut number = 0;
    loop {
        match rows.next(&mut row)? {
            Next::End => break,
            Next::Bad(reason) => {
                tracing::warn!(file = %from.display(), "a row is left out of the copy: {reason}");
                continue;
            }
            Next::Record => {}
        }
        let time = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(FIRST + number);
        let values = added([number.to_string(), time.to_string(), site.to_string()]);
        let cells = (0..columns.len()).map(|cell| row.get(cell).text(&mut scratch).to_string());
        let cells: Vec<String> = cells.collect();
        writer
            .write_record(values.chain(cells))
            .map_err(|error| failed(to, error))?;
        number += 1;
    }
    writer
        .flush()
        .map_err(|error| Error::File(to.into(), error))
}

fn failed(path: &Path, error: csv::Error) -> Error {
    Error::File(path.into(), error.into())
}
