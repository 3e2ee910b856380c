//! Snapshots: what a training round reads from the knowledge base before it starts.

use std::collections::BTreeMap;
use std::sync::Mutex;

use perennial_connectors::knowledge_base::KnowledgeError;
use perennial_operators::{ModelId, TaskId};

use super::context::TrainingContext;
use super::round::TrainingRound;

impl<'a> TrainingRound<'a> {
    /// A round on the knowledge base as it is now.
    pub fn new(context: &'a TrainingContext) -> Result<Self, KnowledgeError> {
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
        Ok(TrainingRound {
            context,
            scale,
            view,
            tasks,
            children,
            deployed: Mutex::new(BTreeMap::new()),
        })
    }
}
