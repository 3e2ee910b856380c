//! Errors of the conversion of an XGBoost model to ONNX.

use thiserror::Error;

/// Why an XGBoost model cannot be written as ONNX.
#[derive(Debug, Error)]
pub enum ConvertError {
    /// The bytes are no XGBoost model in JSON.
    #[error("this is no XGBoost model in JSON: {0}")]
    Json(serde_json::Error),
    /// The model is of a kind that cannot be converted.
    #[error("the XGBoost model has {what} {found}, but only {wanted} can be written as ONNX")]
    Unsupported {
        /// The property of the model.
        what: &'static str,
        /// Its value.
        found: String,
        /// The only supported value.
        wanted: &'static str,
    },
    /// The model has another number of features or classes.
    #[error("the XGBoost model has {found} {what} where {wanted} were expected")]
    Size {
        /// Features or classes.
        what: &'static str,
        /// The number of the model.
        found: usize,
        /// The expected number.
        wanted: usize,
    },
    /// The base score is neither a number nor a list of one or of `classes` numbers.
    #[error("the XGBoost model's base score {0:?} is not one finite number a class")]
    BaseScore(String),
    /// The trees are inconsistent.
    #[error("the XGBoost model is damaged: {0}")]
    Damaged(String),
    /// The model to build on was not written by [`convert`](super::convert) or
    /// [`extend`](super::extend).
    #[error("the model to build on is no tree ensemble of Perennial's own: {0}")]
    Foreign(String),
}
