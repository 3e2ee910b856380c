//! `perennial kb pin` and `perennial kb unpin`: keep a task's model as it is, or let it learn
//! again.

use std::path::Path;

use perennial_connectors::knowledge_base::KnowledgeBase;
use perennial_operators::flow::KnowledgeChange;

use super::find::find;
use crate::error::Error;
use crate::terminal::print_line;

/// Pins the model of a task, or unpins it.
pub(crate) fn pin(state: &Path, wanted: &str, pinned: bool) -> Result<(), Error> {
    let knowledge = KnowledgeBase::open_to_edit(state)?;
    let tasks = knowledge.view().tasks()?;
    let (task, record) = find(&tasks, wanted)?;
    if record.pinned != pinned {
        let task = *task;
        knowledge.amend(vec![KnowledgeChange::TaskPinned { task, pinned }])?;
    }
    let what = if pinned { "pinned" } else { "not pinned" };
    print_line(format!("{}: {what}", record.definition.name));
    Ok(())
}
