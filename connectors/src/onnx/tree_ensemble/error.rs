//! Errors of converting an XGBoost model to ONNX.

use thiserror::Error;

/// Why an XGBoost model could not be written as ONNX.
#[derive(Debug, Error)]
pub enum ConvertError {
    /// The bytes are no XGBoost model in JSON.
    #[error("this is no XGBoost model in JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The model is of a kind that is not converted.
    #[error("the XGBoost model has {what} {found}, but only {wanted} can be written as ONNX")]
    Unsupported {
        /// What property of the model.
        what: &'static str,
        /// Its value.
        found: String,
        /// The value that is understood.
        wanted: &'static str,
    },
    /// The model is not for this number of features or classes.
    #[error("the XGBoost model has {found} {what} where {wanted} were expected")]
    Size {
        /// Features or classes.
        what: &'static str,
        /// How many the model has.
        found: usize,
        /// How many it should have.
        wanted: usize,
    },
    /// The base score is not a number, or a list of one or of `classes` numbers.
    #[error("the XGBoost model's base score {0:?} is not one finite number a class")]
    BaseScore(String),
    /// The trees contradict themselves.
    #[error("the XGBoost model is damaged: {0}")]
    Damaged(String),
    /// The model to build on is not one that [`convert`] or [`extend`] wrote.
    #[error("the model to build on is no tree ensemble of Perennial's own: {0}")]
    Foreign(String),
}
