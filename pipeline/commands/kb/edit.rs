//! What people change in a knowledge base by hand, while no run uses it.

use std::path::Path;

use perennial_connectors::knowledge_base::KnowledgeBase;
use perennial_operators::ModelId;
use perennial_operators::flow::KnowledgeChange;

use super::figures::version;
use super::find::find;
use crate::error::Error;
use crate::terminal::print;

/// Lets an earlier model of a task answer again.
pub fn roll_back(state: &Path, wanted: &str, to: Option<u32>) -> Result<(), Error> {
    let knowledge = KnowledgeBase::open_to_edit(state)?;
    let view = knowledge.view();
    let tasks = view.tasks()?;
    let (task, record) = find(&tasks, wanted)?;
    let name = &record.definition.name;
    let models = view.models()?;
    let of = |version: u32| {
        models.get(&ModelId {
            task: *task,
            version,
        })
    };
    let Some(current) = record.deployed else {
        return Err(Error::NotFound(format!(
            "the task \"{name}\" has no model of its own that could be rolled back"
        )));
    };
    let to = match to {
        None => of(current).and_then(|model| model.replaced),
        Some(version) if of(version).is_some_and(|model| model.deployed.is_some()) => Some(version),
        Some(version) => {
            return Err(Error::NotFound(format!(
                "the task \"{name}\" never had a model v{version} deployed; perennial kb models lists them"
            )));
        }
    };
    if to == Some(current) {
        return Err(Error::NotFound(format!(
            "the task \"{name}\" is at v{current} already"
        )));
    }
    if to.is_none() && record.definition.parent.is_none() {
        return Err(Error::NotFound(
            "the base task has had no other model, and it cannot do without one".to_string(),
        ));
    }
    let model = ModelId {
        task: *task,
        version: current,
    };
    knowledge.amend(vec![KnowledgeChange::ModelRolledBack { model, to }])?;
    let now = match to {
        Some(_) => version(to),
        None => "what is above it".to_string(),
    };
    print(&format!(
        "{name}: v{current} is rolled back, {now} answers\n"
    ));
    Ok(())
}

/// Pins a task's model, or lets it learn again.
pub fn pin(state: &Path, wanted: &str, pinned: bool) -> Result<(), Error> {
    let knowledge = KnowledgeBase::open_to_edit(state)?;
    let tasks = knowledge.view().tasks()?;
    let (task, record) = find(&tasks, wanted)?;
    if record.pinned != pinned {
        let task = *task;
        knowledge.amend(vec![KnowledgeChange::TaskPinned { task, pinned }])?;
    }
    let what = if pinned { "pinned" } else { "not pinned" };
    print(&format!("{}: {what}\n", record.definition.name));
    Ok(())
}
