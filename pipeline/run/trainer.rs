//! The trainer of a run, and the context of its trainings.

use std::path::Path;
use std::sync::Arc;

use perennial_connectors::knowledge_base::KnowledgeBase;
use perennial_connectors::onnx::Runtime;
use perennial_connectors::trainer::{BuiltIn, CommandTrainer, Examiner, Trainer};

use crate::config::Settings;
use crate::error::Error;
use crate::learning::{RefusedDonors, TrainingContext};
use crate::run_status::CommitWatch;

/// The training context of a run.
pub(crate) fn training_context(
    settings: &Settings,
    knowledge: Arc<KnowledgeBase>,
    watch: Arc<CommitWatch>,
    trainer: Trainer,
    runtime: &Runtime,
) -> TrainingContext {
    let config = settings.config();
    TrainingContext {
        knowledge,
        watch,
        trainer,
        runtime: runtime.clone(),
        examiner: Examiner::new(runtime.clone()),
        features: settings.features(),
        kind: settings.label_kind(),
        holdout: config.training.holdout,
        trees: config.training.trees.clone(),
        gate_margin: config.gate.margin,
        max_samples: config.training.max_samples,
        candidates: config.training.candidates.clone(),
        refused_donors: RefusedDonors::default(),
        recognizes: settings.unseen.is_some(),
        threads: config.training.threads.unwrap_or_else(processors),
        timeout: settings.training_timeout,
        mode: config.mode.training(),
    }
}

/// Opens the trainer that the settings name. A training command gets its folders below `state`,
/// which one process at a time uses.
pub(crate) fn open_trainer(
    settings: &Settings,
    state: &Path,
    runtime: &Runtime,
) -> Result<Trainer, Error> {
    let runtime = runtime.clone();
    let Some(command) = &settings.command else {
        return Ok(Trainer::BuiltIn(BuiltIn::find(runtime)?));
    };
    let folder = std::path::absolute(state.join("trainings"))
        .map_err(|error| Error::File(state.to_path_buf(), error))?;
    let schema = settings.schema.clone();
    let trainer = CommandTrainer::new(command.clone(), schema, folder, runtime)?;
    Ok(Trainer::Command(Box::new(trainer)))
}

/// Number of processors.
fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
