//! Orders to train, their outcomes, and the deployments that follow from them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::change::KnowledgeChange;
use crate::data::{ModelId, TaskId};

/// A model that answers for its task from the next epoch on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeployedModel {
    /// Which model.
    pub model: ModelId,
    /// BLAKE3 hash of its ONNX bytes, in hexadecimal.
    pub hash: String,
    /// Its ONNX bytes.
    pub onnx: Arc<Vec<u8>>,
    /// See [`Answering::evidence`](crate::algorithms::pool::DeployedModelRef::evidence).
    pub evidence: f32,
    /// See [`ModelEvaluated::scale`](super::model::ModelEvaluated::scale).
    pub scale: Option<f32>,
}

/// A change of the models that answer, from the next epoch on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Deployment {
    /// A model takes over for its task.
    Deploy(DeployedModel),
    /// An earlier model answers again, if the one that did worse still does.
    Restore {
        /// The one that did worse.
        from: ModelId,
        /// The earlier one.
        to: DeployedModel,
    },
    /// A task no longer has a model of its own, if this one answers; with version 0, whichever does.
    Retire(ModelId),
}

impl Deployment {
    /// The task that it is about.
    pub fn task(&self) -> TaskId {
        match self {
            Deployment::Deploy(deployed) => deployed.model.task,
            Deployment::Restore { from, .. } => from.task,
            Deployment::Retire(model) => model.task,
        }
    }

    /// Its place among those of an epoch, which is that of its change; see [`KnowledgeChange::place`].
    pub(crate) fn place(&self) -> (u32, bool) {
        match self {
            Deployment::Restore { .. } => (0, false),
            Deployment::Deploy(deployed) => (deployed.model.version, false),
            Deployment::Retire(model) => (model.version, true),
        }
    }
}

/// The order to train a model.
#[derive(Clone, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct TrainOrder {
    /// The model to be: its task, and the version it will have.
    pub model: ModelId,
    /// Labelled samples of the task when the order was given.
    pub labelled: i64,
    /// The stream's clock then.
    pub clock: i64,
    /// The condition that gave it.
    pub reason: String,
    /// Whether it belongs to the initial training, for which even live inference waits.
    pub initial: bool,
    /// Where drift gave it, how many labels of the task had come since.
    pub recent: Option<u64>,
}

/// What a training stage ended with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TrainOutcome {
    /// Which model it was about.
    pub model: ModelId,
    /// What is now known of it.
    pub changes: Vec<KnowledgeChange>,
    /// What becomes of the task's model, if anything does.
    pub deployment: Option<Deployment>,
    /// The bytes of models that answer nothing here, under their hashes.
    pub models: Vec<(String, Arc<Vec<u8>>)>,
}
