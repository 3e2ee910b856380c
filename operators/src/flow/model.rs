//! Facts about models: trained, evaluated, related, donated.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::data::{ModelId, TaskDefinition, TaskId};

/// Which of the things that were published of a task is meant: later ones are greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Revision {
    /// When the knowledge base of who published it was made, microseconds since 1970 by its clock: one that is made anew counts
    /// anew.
    pub since: i64,
    /// Grows with each.
    pub number: u64,
}

/// See [`KnowledgeChange::ModelDonated`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelDonated {
    /// Who has trained it: an edge by its name, or the cloud.
    pub donor: Arc<str>,
    /// The tasks above the model's, the base task first, and that one last.
    pub path: Vec<TaskDefinition>,
    /// How it was made.
    pub trained: ModelTrained,
    /// How it was judged there.
    pub evaluated: Option<ModelEvaluated>,
}

impl ModelDonated {
    /// The task whose samples it was trained on.
    pub fn task(&self) -> TaskId {
        self.path.last().map_or(TaskId::BASE, |task| task.task)
    }
}

/// See [`KnowledgeChange::ModelTrained`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelTrained {
    /// Which model.
    pub model: ModelId,
    /// BLAKE3 hash of its ONNX bytes, in hexadecimal; the bytes are stored under it.
    pub hash: String,
    /// Size of the ONNX bytes.
    pub bytes: u64,
    /// Samples that it was fitted on.
    pub samples: u64,
    /// The sequence number of the latest sample that was known of its task: what comes after is new to it.
    pub latest: u64,
    /// How it was built from its relatives.
    pub remodeling: Remodeling,
}

/// How a model is built from its relatives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Remodeling {
    /// From its task's samples alone.
    Scratch,
    /// Its trees correct another model.
    WarmStart {
        /// The model that it starts from.
        from: ModelId,
    },
    /// From the samples of a relative as well.
    Pooled {
        /// The relative.
        with: TaskId,
    },
    /// From its task's samples since its losses rose.
    Recent,
    /// It is an earlier model of its task.
    Recalled {
        /// Which.
        version: u32,
    },
    /// It is a model that was trained elsewhere, as it is.
    Adopted {
        /// Which, by the numbers there.
        model: ModelId,
    },
}

/// See [`KnowledgeChange::RelationScored`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RelationScored {
    /// The model of the other task.
    pub model: ModelId,
    /// The task whose samples it was asked about.
    pub task: TaskId,
    /// How many, the latest of those that the task's own models are fitted on.
    pub samples: u64,
    /// Its share of right predictions, where the label has classes.
    pub accuracy: Option<f64>,
    /// Its mean loss, nats.
    pub log_loss: f64,
    /// The root of its mean squared error, where the label is a number.
    pub rmse: Option<f64>,
}

/// See [`KnowledgeChange::ModelEvaluated`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelEvaluated {
    /// The candidate.
    pub model: ModelId,
    /// The model that it was judged against: what answers without it, if anything does.
    pub incumbent: Option<ModelId>,
    /// Samples that both were judged on, none of which the candidate was fitted on.
    pub samples: u64,
    /// How many that all count the same would tell as much; 0 where there was nothing to compare with.
    pub effective_samples: f64,
    /// The candidate's share of right predictions on them, where the label has classes.
    pub accuracy: Option<f64>,
    /// The candidate's mean loss on them, nats.
    pub log_loss: f64,
    /// The root of the candidate's mean squared error on them, where the label is a number.
    pub rmse: Option<f64>,
    /// The incumbent's accuracy on them.
    pub incumbent_accuracy: Option<f64>,
    /// The incumbent's mean loss on them.
    pub incumbent_log_loss: Option<f64>,
    /// The incumbent's root of the mean squared error.
    pub incumbent_rmse: Option<f64>,
    /// Where the label is a number, the size of a usual error, by which losses are counted in nats: that of the base
    /// task's first model, for all models.
    pub scale: Option<f32>,
}

impl ModelEvaluated {
    /// By how many nats the candidate was better, over all samples; 0 where there was nothing to compare with.
    pub fn evidence(&self) -> f32 {
        let gain = self
            .incumbent_log_loss
            .map_or(0.0, |before| before - self.log_loss);
        (gain * self.effective_samples) as f32
    }
}
