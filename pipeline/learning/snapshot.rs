//! Snapshots: what a training round reads from the knowledge base before it starts.

use std::collections::BTreeMap;
use std::sync::Mutex;

use perennial_connectors::knowledge_base::KnowledgeError;
use perennial_operators::flow::Deployment;
use perennial_operators::{ModelId, TaskId};

use super::context::TrainingContext;
use super::round::TrainingRound;

impl<'a> TrainingRound<'a> {
    /// A round on the knowledge base as it is now. `deployed` are deployments that were decided;
    /// those that are not committed yet count too.
    pub fn new(
        context: &'a TrainingContext,
        deployed: BTreeMap<TaskId, Deployment>,
    ) -> Result<Self, KnowledgeError> {
        let view = context.knowledge.view();
        let tasks = view.tasks()?;
        let mut children: BTreeMap<TaskId, Vec<TaskId>> = BTreeMap::new();
        for (task, record) in &tasks {
            if let Some(parent) = record.definition.parent {
                children.entry(parent).or_default().push(*task);
            }
        }
        let base = tasks.get(&TaskId::BASE).and_then(|record| record.deployed);
        let scale = match base {
            Some(version) => {
                let task = TaskId::BASE;
                let model = view.model(ModelId { task, version })?;
                model.and_then(|model| model.evaluated?.scale)
            }
            None => None,
        };
        let mut round = TrainingRound {
            context,
            scale,
            view,
            tasks,
            children,
            deployed: Mutex::new(BTreeMap::new()),
        };
        round.deployed = Mutex::new(round.not_committed(deployed)?);
        Ok(round)
    }

    /// Leaves the deployments that the round's view of the knowledge base does not have.
    pub(super) fn not_committed(
        &self,
        deployed: BTreeMap<TaskId, Deployment>,
    ) -> Result<BTreeMap<TaskId, Deployment>, KnowledgeError> {
        let mut left = BTreeMap::new();
        for (task, deployment) in deployed {
            if !self.has(&deployment)? {
                left.insert(task, deployment);
            }
        }
        Ok(left)
    }

    fn has(&self, deployment: &Deployment) -> Result<bool, KnowledgeError> {
        let is_gone = |model: &ModelId| {
            let record = self.tasks.get(&model.task);
            record.and_then(|record| record.deployed) != Some(model.version)
        };
        Ok(match deployment {
            Deployment::Deploy(deployed) => {
                let record = self.view.model(deployed.model)?;
                record.is_some_and(|record| record.deployed.is_some())
            }
            Deployment::Restore { from, .. } => is_gone(from),
            Deployment::Retire(model) => is_gone(model),
        })
    }
}
