//! `perennial kb changes`: the log of knowledge changes.

use perennial_connectors::knowledge_base::View;
use perennial_operators::flow::KnowledgeChange;
use perennial_operators::{Epoch, LabelKind};
use serde::Serialize;

use super::describe::Describer;
use crate::error::Error;
use crate::terminal::print_line;

/// A line of `kb changes --json`. It is serialized directly, since a JSON value does not hold the
/// 128-bit sums of statistics.
#[derive(Serialize)]
struct ChangeLine {
    change: KnowledgeChange,
    epoch: Epoch,
}

/// Prints the changes from the epoch `from` on, each as a line.
pub(crate) fn changes(
    view: &View<'_>,
    kind: LabelKind,
    from: Epoch,
    as_json: bool,
) -> Result<(), Error> {
    let tasks = view.tasks()?;
    let describer = Describer::new(&tasks, kind);
    let mut failed = None;
    view.changes(from, |epoch, change| {
        if as_json {
            match serde_json::to_string(&ChangeLine { change, epoch }) {
                Ok(line) => print_line(line),
                Err(error) => failed = Some(error),
            }
        } else {
            print_line(format!("{epoch:>8}  {}", describer.describe(&change)));
        }
        Ok(())
    })?;
    failed.map_or(Ok(()), |error| Err(Error::Failed(error.into())))
}
