//! Raw records of a source, to be sent to topics.

use super::error::SourceError;
use crate::format::Row;

/// The records of a file or of the simulator, one by one.
pub trait Rows: Send {
    /// Reads the next record into the row, whose cells are the requested columns.
    ///
    /// # Errors
    /// The source cannot be read any further.
    fn next(&mut self, row: &mut Row) -> Result<Next, SourceError>;
}

/// Result of [`Rows::next`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// A record, now in the row.
    Record,
    /// A bad record, with the reason.
    Bad(String),
    /// The end of the source.
    End,
}
