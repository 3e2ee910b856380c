//! Records as they stand at their source, before anything is made of them: what is sent on.

use super::error::SourceError;
use crate::format::Row;

/// The records of a file or of the simulator, one by one.
pub trait Rows: Send {
    /// Reads the next record, whose cells are the columns that were asked for, into the row.
    ///
    /// # Errors
    /// The source cannot be read on.
    fn next(&mut self, row: &mut Row) -> Result<Next, SourceError>;
}

/// What came next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// A record, now in the row.
    Record,
    /// A record that makes no row, with the reason.
    Bad(String),
    /// The end.
    End,
}
