//! The trainer of a run.

use std::path::Path;
use std::sync::Arc;

use perennial_connectors::knowledge_base::KnowledgeBase;
use perennial_connectors::onnx::Runtime;
use perennial_connectors::trainer::{BuiltIn, CommandTrainer, Trainer};

use crate::config::Settings;
use crate::error::Error;
use crate::learning::TrainingContext;
use crate::run_status::CommitWatch;

/// What the learner works with.
pub(crate) fn workshop(
    settings: &Settings,
    knowledge: Arc<KnowledgeBase>,
    committed: Arc<CommitWatch>,
    trainer: Trainer,
    runtime: &Runtime,
) -> TrainingContext {
    let config = settings.config();
    TrainingContext {
        knowledge,
        committed,
        trainer,
        runtime: runtime.clone(),
        features: settings.features(),
        kind: settings.label_kind(),
        holdout: config.training.holdout,
        trees: config.training.trees.clone(),
        gate_margin: config.gate.margin,
        max_samples: config.training.max_samples,
        candidates: config.training.candidates.clone(),
        recognizes: settings.unseen.is_some(),
        threads: config.training.threads.unwrap_or_else(processors),
    }
}

/// What fits models. A command's trainings have their folders in the state, which is of one process at a time.
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

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
