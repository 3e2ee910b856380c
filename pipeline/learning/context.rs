//! What every training round needs.

use std::sync::Arc;

use perennial_connectors::knowledge_base::KnowledgeBase;
use perennial_connectors::onnx::Runtime;
use perennial_connectors::trainer::Trainer;
use perennial_operators::{LabelKind, TreeParameters};

use crate::config::CandidateConfig;
use crate::run_status::CommitWatch;

/// What the learner works with.
pub struct TrainingContext {
    /// Where samples and models are.
    pub knowledge: Arc<KnowledgeBase>,
    /// How far the commit is.
    pub committed: Arc<CommitWatch>,
    /// What fits models.
    pub trainer: Trainer,
    /// Runs models to judge them.
    pub runtime: Runtime,
    /// Number of features.
    pub features: usize,
    /// What is predicted.
    pub kind: LabelKind,
    /// Share of the samples that no model is fitted on.
    pub holdout: f64,
    /// Settings of the trees.
    pub trees: TreeParameters,
    /// A training takes at most so many samples.
    pub max_samples: usize,
    /// How a task's model may be built.
    pub candidates: Vec<CandidateConfig>,
    /// By how many nats no related task may get worse.
    pub gate_margin: f64,
    /// Whether samples are compared with those of known tasks.
    pub recognizes: bool,
    /// Trainings at a time.
    pub threads: usize,
}
