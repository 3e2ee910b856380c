//! `perennial kb rollback`: deploys an earlier model of a task again.

use std::path::Path;

use perennial_connectors::knowledge_base::KnowledgeBase;
use perennial_operators::ModelId;
use perennial_operators::flow::KnowledgeChange;

use super::figures::version;
use super::find::find;
use crate::error::Error;
use crate::terminal::print_line;

/// Rolls a task's model back to the version `to`, or to the one that it replaced.
pub(crate) fn roll_back(state: &Path, wanted: &str, to: Option<u32>) -> Result<(), Error> {
    let knowledge = KnowledgeBase::open_to_edit(state)?;
    let view = knowledge.view();
    let tasks = view.tasks()?;
    let (task, record) = find(&tasks, wanted)?;
    let name = &record.definition.name;
    let Some(current) = record.deployed else {
        return Err(Error::NotFound(format!(
            "the task \"{name}\" has no model of its own that could be rolled back"
        )));
    };
    let models = view.models()?;
    let id = |version: u32| ModelId {
        task: *task,
        version,
    };
    let to = match to {
        None => models.get(&id(current)).and_then(|model| model.replaced),
        Some(version) => {
            let model = models.get(&id(version));
            if model.is_none_or(|model| model.deployed.is_none()) {
                return Err(Error::NotFound(format!(
                    "the task \"{name}\" never had a model v{version} deployed; perennial kb models lists them"
                )));
            }
            Some(version)
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
    let model = id(current);
    knowledge.amend(vec![KnowledgeChange::ModelRolledBack { model, to }])?;
    let now = match to {
        Some(_) => version(to),
        None => "what is above it".to_string(),
    };
    print_line(format!("{name}: v{current} is rolled back, {now} answers"));
    Ok(())
}
