//! Failures of operators.

use std::sync::Arc;

/// Failure as operators pass it on, whether their own, a reader's, a model's or a trainer's.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Failure that arises in an operator.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// No task of a sample's path has a model.
    #[error(
        "no model answers for task \"{task}\": not even the base task has one, since its training \
         failed or no sample of the bootstrap had a label"
    )]
    NoModel {
        /// Name of the path's finest task.
        task: Arc<str>,
    },
    /// A sample of an unseen task is held, but it was never predicted.
    #[error("a sample without a prediction is held")]
    NotPredicted,
    /// An array is not in row-major order, or not contiguous.
    #[error("{0} are not row by row in memory")]
    Layout(&'static str),
    /// Samples cannot be encoded to be stored.
    #[error("cannot encode {0} samples")]
    Encode(&'static str, #[source] postcard::Error),
    /// Stored samples cannot be decoded.
    #[error("cannot decode {0} samples")]
    Decode(&'static str, #[source] postcard::Error),
}
