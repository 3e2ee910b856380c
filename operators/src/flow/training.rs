//! Orders to train, their outcomes, and the deployments that follow from them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::change::KnowledgeChange;
use crate::data::{ModelId, TaskId};

/// A model to deploy: it predicts for its task from the next epoch on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeployedModel {
    /// Task and version of the model.
    pub model: ModelId,
    /// BLAKE3 hash of its ONNX bytes, in hexadecimal.
    pub hash: String,
    /// Its ONNX bytes.
    pub onnx: Arc<Vec<u8>>,
    /// Nats by which it beat the incumbent, over all held-back samples; see
    /// [`ModelEvaluated::evidence`](super::model::ModelEvaluated::evidence).
    pub evidence: f32,
    /// Size of a typical error, in the label's unit, where the label is a number; see
    /// [`ModelEvaluated::scale`](super::model::ModelEvaluated::scale).
    pub scale: Option<f32>,
}

/// A change of the deployed models, in force from the next epoch on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Deployment {
    /// Deploys a model for its task.
    Deploy(DeployedModel),
    /// Restores an earlier model, if `from` is still deployed.
    Restore {
        /// The model that did worse.
        from: ModelId,
        /// The earlier model.
        to: DeployedModel,
    },
    /// Retires a model, if it is still deployed; with version 0, whichever is. Its task inherits.
    Retire(ModelId),
}

impl Deployment {
    /// The task whose model changes.
    pub fn task(&self) -> TaskId {
        match self {
            Deployment::Deploy(deployed) => deployed.model.task,
            Deployment::Restore { from, .. } => from.task,
            Deployment::Retire(model) => model.task,
        }
    }

    /// Position among the deployments of a task in an epoch, which agrees with
    /// [`KnowledgeChange::order`]: a model is restored before others are deployed or retired, and
    /// these follow by version.
    pub(crate) fn order(&self) -> (u32, bool) {
        match self {
            Deployment::Restore { .. } => (0, false),
            Deployment::Deploy(deployed) => (deployed.model.version, false),
            Deployment::Retire(model) => (model.version, true),
        }
    }
}

/// A deployed model that failed: it does not load, or it failed for a sample.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ModelFailure {
    /// The model.
    pub model: ModelId,
    /// Why it failed.
    pub reason: String,
    /// What takes its place from the next epoch on; none if nothing does better, so that it stays.
    pub substitute: Option<Substitute>,
}

/// What takes the place of a model that failed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Substitute {
    /// The models of the tasks above: the task inherits.
    Above,
    /// An earlier model of the task.
    Earlier(DeployedModel),
}

impl ModelFailure {
    /// The change of the deployed models that follows, if any.
    pub fn deployment(&self) -> Option<Deployment> {
        Some(match self.substitute.as_ref()? {
            Substitute::Above => Deployment::Retire(self.model),
            Substitute::Earlier(earlier) => Deployment::Restore {
                from: self.model,
                to: earlier.clone(),
            },
        })
    }

    /// The same change, of the knowledge base.
    pub fn change(&self) -> Option<KnowledgeChange> {
        let model = self.model;
        Some(match self.substitute.as_ref()? {
            Substitute::Above => KnowledgeChange::ModelRetired { model },
            Substitute::Earlier(earlier) => KnowledgeChange::ModelRolledBack {
                model,
                to: Some(earlier.model.version),
            },
        })
    }
}

/// Order to train a model.
#[derive(Clone, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct TrainOrder {
    /// The model to train: its task, and the version that it will have.
    pub model: ModelId,
    /// Labelled samples of the task when the order was given.
    pub labelled: i64,
    /// The stream's clock when the order was given, microseconds since 1970.
    pub clock: i64,
    /// The condition that held.
    pub reason: String,
    /// Whether it belongs to the initial training, for which even live inference waits.
    pub initial: bool,
    /// Labels of the task since the drift began, if drift was the reason.
    pub recent: Option<u64>,
}

/// Outcome of a training order, or of an update from elsewhere.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TrainOutcome {
    /// The model that was trained.
    pub model: ModelId,
    /// Facts that were learned.
    pub changes: Vec<KnowledgeChange>,
    /// Change of the task's deployed model, if any.
    pub deployment: Option<Deployment>,
    /// Hashes and ONNX bytes of models that are stored but not deployed here.
    pub models: Vec<(String, Arc<Vec<u8>>)>,
}
