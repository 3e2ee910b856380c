//! Errors of Avro messages and schemas.

use thiserror::Error;

/// Why a message cannot be parsed, or a schema not be registered.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AvroError {
    /// The message or the schema is bad: another attempt would fail in the same way.
    #[error("{0}")]
    Bad(String),
    /// The registry does not answer, or not as a registry does: a later attempt may succeed.
    #[error("{0}")]
    Retry(String),
}
