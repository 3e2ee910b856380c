//! Adoption: how an edge uses tasks and models that the cloud published.

use std::collections::BTreeMap;
use std::sync::Arc;

use perennial_connectors::knowledge_base::KnowledgeBase;
use perennial_connectors::link::Published;
use perennial_operators::flow::{
    DeployedModel, Deployment, KnowledgeChange, ModelDonated, ModelEvaluated, TrainOutcome,
};
use perennial_operators::share::SharePolicy;
use perennial_operators::{ModelId, TaskId, TaskPseudonym};

use super::common::{CLOUD, OTHERS};
use crate::error::Error;

/// What was published under the names that tasks have here; none if it is of tasks of others, under pseudonyms.
pub(crate) fn at_home(
    published: Published,
    policy: Option<&SharePolicy>,
    knowledge: &KnowledgeBase,
) -> Result<Option<Published>, Error> {
    // A donor's model is of no task here.
    let renames = |policy: &&SharePolicy| policy.renames() && published.donor.is_none();
    let Some(policy) = policy.filter(renames) else {
        return Ok(Some(published));
    };
    let renamed = knowledge.view().renamed()?;
    Ok(rename(published, &renamed, policy.common_levels()))
}

/// Renames the tasks of a path; those of the first levels, whose attributes are shared as they are, have the same names for all.
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

/// What becomes of a model that was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// It answers.
    Answers,
    /// It answers, and trainings may start from it.
    Both,
    /// Trainings may start from it.
    Donation,
}

/// What becomes of it: where a model of the edge's own answers, that is for the next training to beat.
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
    match version.is_some_and(|version| version > OTHERS) {
        true => Usage::Donation,
        false => Usage::Both,
    }
}

/// What was published, as the dataflow takes it in.
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
            donor: donor.unwrap_or_else(|| CLOUD.into()),
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
