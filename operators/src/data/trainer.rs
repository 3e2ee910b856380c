//! Request and response of a training: the contract between the pipeline and the training program,
//! which runs as a process of its own.

use ndarray::Array2;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::label::LabelKind;

/// Samples and settings of one training.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TrainRequest {
    /// Feature values, samples × features; NaN = missing.
    pub features: Array2<f32>,
    /// Labels, one a sample: class numbers, or numbers.
    pub labels: Vec<f32>,
    /// Weights, one a sample, 1 on average. None if all samples count the same.
    pub weights: Option<Vec<f32>>,
    /// Kind of the labels.
    pub kind: LabelKind,
    /// Margins to start from, samples × [width](LabelKind::width): logits of the classes, or the
    /// number. The trees then correct the model that predicted them. None to start from the shares
    /// of the classes, or from the mean.
    pub margins: Option<Array2<f32>>,
    /// Settings of the built-in trainer.
    pub parameters: TreeParameters,
}

/// Settings of gradient-boosted trees, named as XGBoost names them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TreeParameters {
    /// Boosting rounds; each adds one tree a class, or one tree for a number.
    pub rounds: u32,
    /// Deepest level of a tree.
    pub max_depth: u32,
    /// Learning rate.
    pub eta: f32,
    /// Least sum of hessians in a leaf.
    pub min_child_weight: f32,
    /// Share of the samples that each round sees.
    pub subsample: f32,
    /// Share of the features that each tree sees.
    pub colsample_bytree: f32,
    /// L2 regularization of leaf weights.
    pub lambda: f32,
    /// Seed of the sampling.
    pub seed: u64,
}

impl Default for TreeParameters {
    fn default() -> Self {
        TreeParameters {
            rounds: 60,
            max_depth: 5,
            eta: 0.1,
            min_child_weight: 5.0,
            subsample: 0.8,
            colsample_bytree: 0.8,
            lambda: 1.0,
            seed: 1,
        }
    }
}

/// Response of the training program.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum TrainResponse {
    /// A model was trained.
    Trained {
        /// Booster in XGBoost's JSON model format.
        model: Vec<u8>,
        /// XGBoost's own predictions of the training rows, samples × [width](LabelKind::width), to
        /// check the converted model against.
        answers: Array2<f32>,
    },
    /// Training failed, for this reason.
    Failed(String),
}
