//! Adoption: how an edge takes in tasks and models that the cloud published.

use std::collections::BTreeMap;
use std::sync::Arc;

use perennial_connectors::knowledge_base::KnowledgeBase;
use perennial_connectors::link::Published;
use perennial_operators::flow::{
    DeployedModel, Deployment, KnowledgeChange, ModelDonated, ModelEvaluated, TrainOutcome,
};
use perennial_operators::share::SharePolicy;
use perennial_operators::{ModelId, TaskId, TaskPseudonym};

use super::common::LAST_CLOUD_VERSION;
use crate::error::Error;

/// Refuses a published task with the number of another task here.
///
/// # Errors
/// The two names.
fn check_numbers(published: &Published, knowledge: &KnowledgeBase) -> Result<(), Error> {
    let view = knowledge.view();
    for task in &published.path {
        if let Some(known) = view.task(task.task)?
            && !known.definition.is_same(task)
        {
            let (known, found) = (known.definition.name, &task.name);
            let reason = format!("the cloud's task {found:?} has the number of {known:?} here");
            return Err(Error::Failed(reason.into()));
        }
    }
    Ok(())
}

/// A published task under the names that tasks have here. None if it is a task of other edges,
/// known only by pseudonyms.
///
/// # Errors
/// It has the number of another task here.
pub(crate) fn at_home(
    published: Published,
    policy: Option<&SharePolicy>,
    knowledge: &KnowledgeBase,
) -> Result<Option<Published>, Error> {
    // The tasks of a donor are not tasks here, and keep their names.
    let renames = |policy: &&SharePolicy| policy.renames() && published.donor.is_none();
    let published = match policy.filter(renames) {
        None => Some(published),
        Some(policy) => {
            let renamed = knowledge.view().pseudonyms()?;
            rename(published, &renamed, policy.common_levels())
        }
    };
    if let Some(published) = published.iter().find(|published| published.donor.is_none()) {
        check_numbers(published, knowledge)?;
    }
    Ok(published)
}

/// Renames the tasks of a path. Those of the first `common` levels have the same names everywhere,
/// since their attributes are shared as they are.
fn rename(
    mut published: Published,
    renamed: &BTreeMap<TaskId, TaskPseudonym>,
    common: usize,
) -> Option<Published> {
    for (level, task) in published.path.iter_mut().enumerate() {
        match renamed.get(&task.task) {
            Some(renamed) => *task = renamed.here.clone(),
            None if level <= common => {}
            None => return None,
        }
    }
    let task = published.path.last()?.task;
    if let Some(published) = &mut published.model {
        published.model.task = task;
        published.trained.model.task = task;
        if let Some(evaluated) = &mut published.evaluated {
            evaluated.model.task = task;
        }
    }
    Some(published)
}

/// How a published model is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// The model is deployed.
    Answers,
    /// The model is deployed, and trainings may start from it.
    Both,
    /// Trainings may start from the model.
    Donation,
}

/// How a published model is used. If a model that the edge trained is deployed, the next training
/// decides between the two.
pub(crate) fn usage(published: &Published, trains: bool, knowledge: &KnowledgeBase) -> Usage {
    if published.donor.is_some() {
        return Usage::Donation;
    }
    if !trains {
        return Usage::Answers;
    }
    let task = published.task();
    let record = knowledge.view().task(task).ok().flatten();
    let version = record.and_then(|record| record.deployed);
    if version.is_some_and(|version| version > LAST_CLOUD_VERSION) {
        Usage::Donation
    } else {
        Usage::Both
    }
}

/// A published task as an outcome for the dataflow.
pub fn outcome(published: Published, usage: Usage) -> TrainOutcome {
    let Published {
        revision,
        path,
        donor,
        deviations,
        model,
        ..
    } = published;
    let task = path.last().map_or(TaskId::BASE, |task| task.task);
    let donor: Option<Arc<str>> = donor.map(Into::into);
    let mut changes = vec![KnowledgeChange::Followed {
        task,
        donor: donor.clone(),
        revision,
    }];
    changes.extend(deviations.map(|deviations| KnowledgeChange::FeaturesScaled { deviations }));
    let mut models = Vec::new();
    if let (Some(model), true) = (&model, usage != Usage::Answers) {
        changes.push(KnowledgeChange::ModelDonated(Box::new(ModelDonated {
            donor: donor.unwrap_or_else(|| ModelDonated::CLOUD.into()),
            path: path.clone(),
            trained: model.trained.clone(),
            evaluated: model.evaluated.clone(),
        })));
        models.push((model.trained.hash.clone(), Arc::new(model.onnx.clone())));
    }
    if usage == Usage::Donation {
        return TrainOutcome {
            model: ModelId { task, version: 0 },
            changes,
            deployment: None,
            models,
        };
    }
    changes.extend(path.into_iter().map(KnowledgeChange::TaskDefined));
    let Some(published) = model else {
        let model = ModelId { task, version: 0 };
        changes.push(KnowledgeChange::ModelRetired { model });
        return TrainOutcome {
            model,
            changes,
            deployment: Some(Deployment::Retire(model)),
            models,
        };
    };
    let model = published.model;
    let deployed = DeployedModel {
        model,
        hash: published.trained.hash.clone(),
        onnx: Arc::new(published.onnx),
        evidence: published
            .evaluated
            .as_ref()
            .map_or(0.0, ModelEvaluated::evidence),
        scale: published
            .evaluated
            .as_ref()
            .and_then(|evaluated| evaluated.scale),
    };
    changes.push(KnowledgeChange::ModelTrained(published.trained));
    changes.extend(published.evaluated.map(KnowledgeChange::ModelEvaluated));
    changes.push(KnowledgeChange::ModelDeployed { model });
    TrainOutcome {
        model,
        changes,
        deployment: Some(Deployment::Deploy(deployed)),
        models,
    }
}
