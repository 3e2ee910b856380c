//! Raw records of a file.

use super::{FileConfig, Records, records};
use crate::format::Row;
use crate::source::error::SourceError;
use crate::source::rows::{Next, Rows};

/// An open file.
struct FileRows {
    path: String,
    records: Box<dyn Records>,
}

/// Opens a file whose records have `columns`, which become the cells of the rows.
pub fn open_rows(config: &FileConfig, columns: &[String]) -> Result<Box<dyn Rows>, SourceError> {
    Ok(Box::new(FileRows {
        path: config.path.display().to_string(),
        records: records(config, columns)?,
    }))
}

impl Rows for FileRows {
    fn next(&mut self, row: &mut Row) -> Result<Next, SourceError> {
        let next = self.records.next(row);
        let broken = |reason| SourceError::Broken {
            path: self.path.clone(),
            record: self.records.number(),
            reason,
        };
        match next.map_err(broken)? {
            Next::Bad(reason) => Ok(Next::Bad(format!(
                "{}:{}: {reason}",
                self.path,
                self.records.number()
            ))),
            next => Ok(next),
        }
    }
}
