//! Training context: what every training round needs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use perennial_connectors::knowledge_base::KnowledgeBase;
use perennial_connectors::onnx::Runtime;
use perennial_connectors::trainer::{Examiner, Trainer};
use perennial_operators::learn::TrainingMode;
use perennial_operators::{LabelKind, TreeParameters};

use crate::config::CandidateConfig;
use crate::run_status::CommitWatch;

/// Donated models that were refused in this run, by hash, each with whether it would be on any
/// samples.
#[derive(Debug, Default)]
pub struct RefusedDonors(Mutex<BTreeMap<String, bool>>);

impl RefusedDonors {
    /// Whether the model with this hash was refused, and would be on any samples.
    pub(super) fn has(&self, hash: &str) -> bool {
        self.lock().get(hash).is_some_and(|on_any| *on_any)
    }

    /// Refuses the model with this hash, on any samples or on those that it was tried on. Returns
    /// whether it is refused for the first time.
    pub(super) fn refuse(&self, hash: &str, on_any: bool) -> bool {
        self.lock().insert(hash.to_string(), on_any).is_none()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, bool>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Knowledge, tools and settings of the trainings of a run.
pub struct TrainingContext {
    /// Has samples and models.
    pub knowledge: Arc<KnowledgeBase>,
    /// Tells which epochs are committed.
    pub watch: Arc<CommitWatch>,
    /// Fits models.
    pub trainer: Trainer,
    /// Runs models to judge them.
    pub runtime: Runtime,
    /// Runs models from elsewhere.
    pub examiner: Examiner,
    /// Number of features.
    pub features: usize,
    /// Classes or a number.
    pub kind: LabelKind,
    /// Share of the samples that no model is fitted on.
    pub holdout: f64,
    /// Settings of the trees.
    pub trees: TreeParameters,
    /// Limit on the samples of a training.
    pub max_samples: usize,
    /// Recipes that may be tried.
    pub candidates: Vec<CandidateConfig>,
    /// Donated models that were refused.
    pub refused_donors: RefusedDonors,
    /// Nats by which a related task may get worse.
    pub gate_margin: f64,
    /// Whether unseen samples are recognized, for which a reference of known ones is drawn.
    pub recognizes: bool,
    /// Number of trainings at a time.
    pub threads: usize,
    /// Time limit of an order: all of its trainings together.
    pub timeout: Duration,
    /// Whether the stream waits for trainings.
    pub mode: TrainingMode,
}
