//! `perennial kb changes`: the log of knowledge changes.

use perennial_connectors::knowledge_base::View;
use perennial_operators::flow::KnowledgeChange;
use perennial_operators::{Epoch, LabelKind};
use serde::Serialize;

use super::describe::describe;
use crate::error::Error;
use crate::terminal::print;

/// A line of `kb changes --json`. It is not made by way of a JSON value, which does not hold the
/// 128-bit sums of statistics.
#[derive(Serialize)]
struct ChangeLine {
    change: KnowledgeChange,
    epoch: Epoch,
}

pub(crate) fn changes(
    view: &View<'_>,
    kind: LabelKind,
    from: Epoch,
    as_json: bool,
) -> Result<(), Error> {
    let tasks = view.tasks()?;
    let mut failed = None;
    view.changes(from, |epoch, change| {
        let line = if as_json {
            serde_json::to_string(&ChangeLine { change, epoch })
        } else {
            Ok(format!("{epoch:>8}  {}", describe(&tasks, kind, &change)))
        };
        match line {
            Ok(line) => print(&format!("{line}\n")),
            Err(error) => failed = Some(error),
        }
        Ok(())
    })?;
    failed.map_or(Ok(()), |error| Err(Error::Failed(error.into())))
}
