//! `perennial kb unseen`: unseen tasks, what became of them, and open label requests.

use comfy_table::{Cell, Table};
use perennial_connectors::knowledge_base::View;
use perennial_operators::Epoch;
use perennial_operators::algorithms::unseen::{GroupOutcome, UnseenGroup, UnseenSettled};
use perennial_operators::flow::KnowledgeChange;
use serde_json::{Value, json};

use super::describe::describe_outcome;
use crate::error::Error;
use crate::terminal::{print_json, print_line, right, table};

pub(crate) fn unseen(view: &View<'_>, as_json: bool) -> Result<(), Error> {
    let groups: Vec<UnseenGroup> = view
        .unseen()?
        .into_iter()
        .map(|entry| entry.group)
        .collect();
    let (settled, forgotten) = read_settled(view)?;
    let requests = view.requests()?.len();
    if as_json {
        let settled: Vec<Value> = settled
            .iter()
            .map(|(epoch, settled)| json!({"epoch": epoch, "settled": settled}))
            .collect();
        return print_json(&json!({
            "unseen": groups,
            "settled": settled,
            "forgotten": forgotten,
            "requests": requests,
        }));
    }
    print_line(group_table(&groups));
    if !settled.is_empty() {
        print_line(settled_table(&settled));
    }
    if forgotten > 0 {
        print_line(format!("{forgotten} more made room for others"));
    }
    if requests > 0 {
        print_line(format!(
            "{requests} labels are asked for: perennial label lists them"
        ));
    }
    Ok(())
}

/// The unseen tasks that were settled, with their epochs. Forgotten ones are only counted, since
/// there may be many.
fn read_settled(view: &View<'_>) -> Result<(Vec<(Epoch, UnseenSettled)>, u64), Error> {
    let mut settled = Vec::new();
    let mut forgotten = 0;
    view.changes(Epoch(0), |epoch, change| {
        if let KnowledgeChange::UnseenSettled(group) = change {
            if group.became == GroupOutcome::Forgotten {
                forgotten += 1;
            } else {
                settled.push((epoch, group));
            }
        }
        Ok(())
    })?;
    Ok((settled, forgotten))
}

fn group_table(groups: &[UnseenGroup]) -> Table {
    let mut rows = table(&[
        "unseen task",
        "first sample",
        "samples",
        "labels",
        "tried with",
    ]);
    for group in groups {
        // Up to `error` of the counted samples may be of groups that this one replaced.
        let least = group.samples - group.error;
        let samples = if group.error == 0 {
            least.to_string()
        } else {
            format!("{least} to {}", group.samples)
        };
        rows.add_row(vec![
            Cell::new(&group.task().name),
            right(group.first),
            right(samples),
            right(group.labelled),
            right(group.tried),
        ]);
    }
    rows
}

fn settled_table(settled: &[(Epoch, UnseenSettled)]) -> Table {
    let mut rows = table(&[
        "epoch",
        "was unseen",
        "first sample",
        "samples",
        "labels",
        "now",
    ]);
    for (epoch, group) in settled {
        rows.add_row(vec![
            right(epoch),
            Cell::new(&group.task.name),
            right(group.first),
            right(group.samples),
            right(group.labelled),
            Cell::new(describe_outcome(&group.became)),
        ]);
    }
    rows
}
