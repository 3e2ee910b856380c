//! Errors of Avro decoding.

use thiserror::Error;

/// What keeps a message from being read, or a schema from being registered. The texts are sentences
/// without a full stop.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AvroError {
    /// Trying again would change nothing: the message or the schema is bad.
    #[error("{0}")]
    Bad(String),
    /// The registry does not answer as it should; it may later on.
    #[error("{0}")]
    Retry(String),
}
