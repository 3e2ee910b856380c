//! Facts about models: trained, evaluated, related, donated.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::data::{ModelId, TaskDefinition, TaskId};

/// Revision of a published task; later revisions compare greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Revision {
    /// When the publisher's knowledge base was created, microseconds since 1970 by the publisher's
    /// clock. A new knowledge base starts its numbers anew.
    pub since: i64,
    /// Number of the revision, growing from one to the next.
    pub number: u64,
}

/// A model that was trained elsewhere, a donor for trainings here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelDonated {
    /// Where it was trained: the name of an edge, or the cloud.
    pub donor: Arc<str>,
    /// Path from the base task to the model's task.
    pub path: Vec<TaskDefinition>,
    /// The model and how it was trained.
    pub trained: ModelTrained,
    /// Its evaluation there, if there was any.
    pub evaluated: Option<ModelEvaluated>,
}

impl ModelDonated {
    /// Name of the cloud as a donor, at an edge that has a model of its own.
    pub const CLOUD: &str = "the cloud";

    /// The task whose samples it was trained on.
    pub fn task(&self) -> TaskId {
        self.path.last().map_or(TaskId::BASE, |task| task.task)
    }
}

/// A trained model; its ONNX bytes are stored under their hash.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelTrained {
    /// Task and version of the model.
    pub model: ModelId,
    /// BLAKE3 hash of its ONNX bytes, in hexadecimal.
    pub hash: String,
    /// Size of the ONNX bytes.
    pub bytes: u64,
    /// Number of samples that it was fitted on.
    pub samples: u64,
    /// Sequence number of the task's latest sample at the time of training; later samples are new
    /// to the model.
    pub latest: u64,
    /// How it was built from its relatives.
    pub remodeling: Remodeling,
}

/// Way to build a model from its relatives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Remodeling {
    /// Fitted on the task's samples alone.
    Scratch,
    /// Fitted to correct another model.
    WarmStart {
        /// The model that it starts from.
        from: ModelId,
    },
    /// Fitted on the samples of the task and of a relative.
    Pooled {
        /// The relative.
        with: TaskId,
    },
    /// Fitted on the task's samples since its losses rose.
    Recent,
    /// An earlier model of the task, unchanged.
    Recalled {
        /// Version of the earlier model.
        version: u32,
    },
    /// A model that was trained elsewhere, unchanged.
    Adopted {
        /// The model, by its id there.
        model: ModelId,
    },
}

/// Evaluation of the model of one task on the samples of another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RelationScored {
    /// The model.
    pub model: ModelId,
    /// The task whose samples it was evaluated on.
    pub task: TaskId,
    /// Number of samples: the latest of those that the task's own models are fitted on.
    pub samples: u64,
    /// Share of right predictions, where the label has classes.
    pub accuracy: Option<f64>,
    /// Mean loss, nats.
    pub log_loss: f64,
    /// Root of the mean squared error, where the label is a number.
    pub rmse: Option<f64>,
}

/// Evaluation of a candidate against the incumbent, on held-back samples of its task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelEvaluated {
    /// The candidate.
    pub model: ModelId,
    /// The model that predicts without the candidate, if there is one.
    pub incumbent: Option<ModelId>,
    /// Number of samples that both were evaluated on; the candidate was fitted on none of them.
    pub samples: u64,
    /// Effective sample size (Kish 1965, "Survey Sampling"): the number of samples of equal weight
    /// that tell as much. 0 without an incumbent.
    pub effective_samples: f64,
    /// The candidate's share of right predictions, where the label has classes.
    pub accuracy: Option<f64>,
    /// The candidate's mean loss, nats.
    pub log_loss: f64,
    /// Root of the candidate's mean squared error, where the label is a number.
    pub rmse: Option<f64>,
    /// The incumbent's share of right predictions.
    pub incumbent_accuracy: Option<f64>,
    /// The incumbent's mean loss, nats.
    pub incumbent_log_loss: Option<f64>,
    /// Root of the incumbent's mean squared error.
    pub incumbent_rmse: Option<f64>,
    /// Where the label is a number, the size of a typical error, in the label's unit: that of the
    /// base task's first model, for all models. Losses in nats are of errors in this scale.
    pub scale: Option<f32>,
}

impl ModelEvaluated {
    /// Nats that the candidate gained on the incumbent, over all effective samples; 0 without an
    /// incumbent.
    pub fn evidence(&self) -> f32 {
        let gain = self
            .incumbent_log_loss
            .map_or(0.0, |incumbent| incumbent - self.log_loss);
        (gain * self.effective_samples) as f32
    }
}
