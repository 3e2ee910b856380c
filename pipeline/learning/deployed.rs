//! Deployed models, read from the knowledge base.

use std::sync::Arc;

use perennial_connectors::knowledge_base::{KnowledgeError, View};
use perennial_operators::ModelId;
use perennial_operators::flow::{DeployedModel, ModelEvaluated};

/// Loads a model from the knowledge base.
pub fn load(view: &View<'_>, model: ModelId) -> Result<DeployedModel, KnowledgeError> {
    let onnx = view.onnx(model)?;
    let evaluated = view.model(model)?.and_then(|record| record.evaluated);
    Ok(DeployedModel {
        model,
        hash: blake3::hash(&onnx).to_hex().to_string(),
        onnx: Arc::new(onnx),
        evidence: evaluated.as_ref().map_or(0.0, ModelEvaluated::evidence),
        scale: evaluated.and_then(|evaluated| evaluated.scale),
    })
}
