//! Models that no longer load, since ONNX Runtime was changed for another version for example. They
//! are retired before the run begins.

use std::collections::BTreeMap;

use perennial_connectors::knowledge_base::{KnowledgeBase, TaskRecord, View};
use perennial_connectors::onnx::{OnnxError, Runtime};
use perennial_operators::flow::KnowledgeChange;
use perennial_operators::{ModelId, TaskId};

use crate::config::Settings;
use crate::error::Error;

/// Retires deployed models that do not load, so that their tasks inherit. The base task's is rolled
/// back to its latest earlier model that loads.
///
/// # Errors
/// No model of the base task loads.
pub(super) fn retire_unloadable(
    settings: &Settings,
    knowledge: &KnowledgeBase,
    runtime: &Runtime,
) -> Result<(), Error> {
    let view = knowledge.view();
    let (features, width) = (settings.features(), settings.label_kind().width());
    let loads = |model: ModelId| -> Result<Option<OnnxError>, Error> {
        let onnx = view.onnx(model)?;
        Ok(runtime.session(&onnx, features, width).err())
    };
    let mut changes = Vec::new();
    for (model, record) in deployed(&view.tasks()?) {
        let Some(reason) = loads(model)? else {
            continue;
        };
        let (task, version) = (&*record.definition.name, model.version);
        if model.task != TaskId::BASE {
            tracing::warn!(
                task,
                version,
                "retired a model that does not load; the task inherits: {reason}"
            );
            changes.push(KnowledgeChange::ModelRetired { model });
            continue;
        }
        let mut earlier = None;
        for before in earlier_models(&view, model)? {
            if loads(before)?.is_none() {
                earlier = Some(before.version);
                break;
            }
        }
        let Some(to) = earlier else {
            return Err(Error::NoBaseModel { version, reason });
        };
        tracing::warn!(
            task,
            version,
            to,
            "rolled back a model that does not load: {reason}"
        );
        let to = Some(to);
        changes.push(KnowledgeChange::ModelRolledBack { model, to });
    }
    if !changes.is_empty() {
        knowledge.amend(changes)?;
    }
    Ok(())
}

/// The deployed models, with the records of their tasks.
fn deployed(tasks: &BTreeMap<TaskId, TaskRecord>) -> impl Iterator<Item = (ModelId, &TaskRecord)> {
    tasks.iter().filter_map(|(task, record)| {
        let (task, version) = (*task, record.deployed?);
        Some((ModelId { task, version }, record))
    })
}

/// The other models that were ever deployed for the task of `model`, the latest first.
fn earlier_models(view: &View<'_>, model: ModelId) -> Result<Vec<ModelId>, Error> {
    let models = view.models_of(model.task)?.into_iter();
    let earlier = models.filter_map(|record| Some((record.deployed?, record.trained.model)));
    let mut earlier: Vec<_> = earlier.filter(|(_, earlier)| *earlier != model).collect();
    earlier.sort_unstable();
    Ok(earlier
        .into_iter()
        .rev()
        .map(|(_, earlier)| earlier)
        .collect())
}
