//! Packing: what may leave of a commit, cut into changes for the outbox.

use std::collections::BTreeMap;

use perennial_connectors::knowledge_base::View;
use perennial_connectors::link::{Change, Donation, PublishedModel};
use perennial_operators::flow::{
    EpochEffects, KnowledgeChange, ModelEvaluated, ModelTrained, Remodeling,
};
use perennial_operators::share::SharePolicy;
use perennial_operators::{ModelId, TaskDefinition, TaskId};

use super::common::LAST_CLOUD_VERSION;
use crate::error::Error;

/// Bound in bytes on the samples of a change. A topic with Kafka's own limit, 1 MB, takes it, even
/// if it does not compress.
const CHANGE_BYTES: usize = 1 << 19;

/// Packs what a policy lets leave.
pub(super) struct Packer {
    policy: SharePolicy,
    /// Bound in bytes on the samples of a change.
    most: usize,
    /// Tasks as they are named elsewhere, by their ids here.
    names: BTreeMap<TaskId, TaskDefinition>,
}

impl Packer {
    /// A packer for an outbox of `room` bytes, of which a change takes only a part.
    pub(super) fn new(view: &View<'_>, policy: SharePolicy, room: u64) -> Result<Packer, Error> {
        Ok(Packer {
            names: names_elsewhere(view, &policy)?,
            most: CHANGE_BYTES.min(room as usize / 8),
            policy,
        })
    }

    /// What may leave of a commit, cut into changes that fit into a message and of which several
    /// fit into the outbox. Statistics are not cut. Each model is a change of its own.
    pub(super) fn changes(&mut self, epochs: &mut [EpochEffects]) -> Vec<Change> {
        let (mut changes, mut models) = (Vec::new(), Vec::new());
        let (mut change, mut bytes) = (Change::default(), 0);
        for effects in epochs {
            let most = self.most;
            for part in effects.shared.drain(..).flat_map(|part| part.cut(most)) {
                bytes += part.bytes();
                if bytes > most && !change.is_empty() {
                    bytes = part.bytes();
                    changes.push(std::mem::take(&mut change));
                }
                change.samples.push(part);
                change.epoch = effects.epoch;
            }
            self.learn_names(&effects.changes);
            let names = |task: TaskId| self.names.get(&task).cloned();
            let statistics = self.policy.statistics(&effects.changes, &names);
            change.statistics.extend(statistics);
            change.epoch = effects.epoch;
            if self.policy.models {
                models.extend(self.models(effects).into_iter().map(|donation| Change {
                    epoch: effects.epoch,
                    models: vec![donation],
                    ..Change::default()
                }));
            }
        }
        changes.push(change);
        changes.append(&mut models);
        changes.retain(|change| !change.is_empty());
        changes
    }

    /// The models that were trained here and deployed in an epoch.
    fn models(&self, effects: &EpochEffects) -> Vec<Donation> {
        let mut trained = BTreeMap::new();
        let mut evaluated = BTreeMap::new();
        let mut models = Vec::new();
        for change in &effects.changes {
            match change {
                KnowledgeChange::ModelTrained(change) => {
                    trained.insert(change.model, change);
                }
                KnowledgeChange::ModelEvaluated(change) => {
                    evaluated.insert(change.model, change);
                }
                KnowledgeChange::ModelDeployed { model } if model.version > LAST_CLOUD_VERSION => {
                    let (Some(trained), Some(path)) = (trained.get(model), self.path(model.task))
                    else {
                        continue;
                    };
                    let mut stored = effects.models.iter();
                    if let Some((_, onnx)) = stored.find(|(hash, _)| *hash == trained.hash) {
                        let evaluated = evaluated.get(model).copied().cloned();
                        models.push(self.donation(path, trained, evaluated, onnx));
                    }
                }
                _ => {}
            }
        }
        models
    }

    /// The path of a task as it is named elsewhere.
    fn path(&self, task: TaskId) -> Option<Vec<TaskDefinition>> {
        let mut path = vec![self.names.get(&task)?.clone()];
        while let Some(parent) = path[0].parent {
            let above = self.names.values().find(|above| above.task == parent);
            path.insert(0, above?.clone());
        }
        Some(path)
    }

    /// Takes in the names that tasks get elsewhere.
    fn learn_names(&mut self, changes: &[KnowledgeChange]) {
        for change in changes {
            match change {
                KnowledgeChange::TaskPseudonym(renamed) => {
                    let elsewhere = renamed.elsewhere.clone();
                    self.names.insert(renamed.here.task, elsewhere);
                }
                KnowledgeChange::TaskDefined(task) if !self.policy.renames() => {
                    self.names.insert(task.task, task.clone());
                }
                _ => {}
            }
        }
    }

    /// A model under the name that its task has elsewhere. Task ids are replaced too: they are
    /// hashes of names that must not leave.
    fn donation(
        &self,
        path: Vec<TaskDefinition>,
        trained: &ModelTrained,
        evaluated: Option<ModelEvaluated>,
        onnx: &[u8],
    ) -> Donation {
        let task = path.last().map_or(TaskId::BASE, |task| task.task);
        let model = ModelId {
            task,
            version: trained.model.version,
        };
        let elsewhere = |model: ModelId| {
            let task = self.names.get(&model.task)?.task;
            Some(ModelId { task, ..model })
        };
        let remodeling = match trained.remodeling {
            known if !self.policy.renames() => Some(known),
            Remodeling::WarmStart { from } => {
                elsewhere(from).map(|from| Remodeling::WarmStart { from })
            }
            Remodeling::Adopted { model } => {
                elsewhere(model).map(|model| Remodeling::Adopted { model })
            }
            Remodeling::Pooled { with } => {
                let with = self.names.get(&with).map(|task| task.task);
                with.map(|with| Remodeling::Pooled { with })
            }
            other => Some(other),
        };
        Donation {
            path,
            model: PublishedModel {
                model,
                trained: ModelTrained {
                    model,
                    remodeling: remodeling.unwrap_or(Remodeling::Scratch),
                    ..trained.clone()
                },
                evaluated: evaluated.map(|evaluated| ModelEvaluated {
                    model,
                    incumbent: evaluated.incumbent.and_then(elsewhere),
                    ..evaluated
                }),
                onnx: onnx.to_vec(),
                is_stored: false,
            },
        }
    }
}

/// Definitions of tasks as they are named elsewhere, by their ids here.
fn names_elsewhere(
    view: &View<'_>,
    policy: &SharePolicy,
) -> Result<BTreeMap<TaskId, TaskDefinition>, Error> {
    if policy.renames() {
        let renamed = view.pseudonyms()?.into_values();
        Ok(renamed
            .filter(|renamed| renamed.naming == policy.naming())
            .map(|renamed| (renamed.here.task, renamed.elsewhere))
            .collect())
    } else {
        let tasks = view.tasks()?.into_iter();
        Ok(tasks
            .map(|(task, record)| (task, record.definition))
            .collect())
    }
}
