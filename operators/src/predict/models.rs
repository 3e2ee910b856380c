//! Runtime of models, as prediction sees it.

use std::sync::Arc;

use ndarray::{ArrayView2, ArrayViewMut2};

use crate::data::ModelId;
use crate::error::Failure;

/// Runtime of models, such as ONNX Runtime: loads and runs them.
pub trait Models {
    /// Loads a model. The runtime may keep the bytes, to load it again.
    fn load(&mut self, model: ModelId, onnx: &Arc<Vec<u8>>) -> Result<(), Failure>;

    /// Unloads a model.
    fn unload(&mut self, model: ModelId);

    /// Writes the output of a model for `features` (samples × features) to `probabilities`: class
    /// probabilities (samples × classes), or numbers (samples × 1).
    fn predict(
        &mut self,
        model: ModelId,
        features: ArrayView2<'_, f32>,
        probabilities: ArrayViewMut2<'_, f32>,
    ) -> Result<(), Failure>;
}
