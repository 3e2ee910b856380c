//! `perennial kb unseen`: unseen tasks, what became of them, and the labels that are asked for.

use comfy_table::Cell;
use perennial_connectors::knowledge_base::View;
use perennial_operators::Epoch;
use perennial_operators::algorithms::unseen::{GroupOutcome, UnseenGroup, UnseenSettled};
use perennial_operators::flow::KnowledgeChange;
use serde_json::json;

use super::describe::became;
use crate::error::Error;
use crate::terminal::{print, print_json, right, table};

/// Unseen tasks that were forgotten are not worth a line each.
fn is_told(settled: &UnseenSettled) -> bool {
    settled.became != GroupOutcome::Forgotten
}

pub fn unseen(view: &View<'_>, as_json: bool) -> Result<(), Error> {
    let groups: Vec<UnseenGroup> = view
        .unseen()?
        .into_iter()
        .map(|entry| entry.group)
        .collect();
    let mut settled: Vec<(Epoch, UnseenSettled)> = Vec::new();
    let mut forgotten = 0;
    view.changes(Epoch(0), |epoch, change| {
        match change {
            KnowledgeChange::UnseenSettled(one) if is_told(&one) => settled.push((epoch, one)),
            KnowledgeChange::UnseenSettled(_) => forgotten += 1,
            _ => {}
        }
        Ok(())
    })?;
    let requests = view.requests()?.len();
    if as_json {
        let settled = settled.iter();
        let settled = settled.map(|(epoch, one)| json!({"epoch": epoch, "settled": one}));
        return print_json(&json!({
            "unseen": groups,
            "settled": settled.collect::<Vec<_>>(),
            "forgotten": forgotten,
            "requests": requests,
        }));
    }
    let mut unseen = table(&[
        "unseen task",
        "first sample",
        "samples",
        "labels",
        "tried with",
    ]);
    for group in &groups {
        // What made room may be counted too.
        let least = group.samples - group.error;
        let samples = match group.error {
            0 => least.to_string(),
            _ => format!("{least} to {}", group.samples),
        };
        unseen.add_row(vec![
            Cell::new(&group.task().name),
            right(group.first),
            right(samples),
            right(group.labelled),
            right(group.tried),
        ]);
    }
    print(&format!("{unseen}\n"));
    if !settled.is_empty() {
        let mut done = table(&[
            "epoch",
            "was unseen",
            "first sample",
            "samples",
            "labels",
            "now",
        ]);
        for (epoch, one) in &settled {
            done.add_row(vec![
                right(epoch),
                Cell::new(&one.task.name),
                right(one.first),
                right(one.samples),
                right(one.labelled),
                Cell::new(became(&one.became)),
            ]);
        }
        print(&format!("{done}\n"));
    }
    if forgotten > 0 {
        print(&format!("{forgotten} more made room for others\n"));
    }
    if requests > 0 {
        print(&format!(
            "{requests} labels are asked for: perennial label lists them\n"
        ));
    }
    Ok(())
}
