//! `perennial audit`: everything that left a site, to whom, with which fields.

use std::path::Path;

use perennial_connectors::knowledge_base::{
    KnowledgeBase, OutboxProgress, ShareTerms, SharedRecord,
};
use serde::Serialize;

use crate::error::Error;
use crate::terminal::{print_line, time};

/// Where a change is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Fate {
    /// It has arrived.
    Left,
    /// It is in the outbox, and may be being sent.
    Waiting,
    /// It was shed.
    Shed,
    /// It was shed while it was being sent, and may have arrived.
    ShedOnItsWay,
}

impl Fate {
    fn of(number: u64, record: &SharedRecord, outbox: &OutboxProgress) -> Fate {
        match record.shed {
            Some(_) if record.tried => Fate::ShedOnItsWay,
            Some(_) => Fate::Shed,
            None if number < outbox.sent => Fate::Left,
            None => Fate::Waiting,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Fate::Left => "left",
            Fate::Waiting => "waiting",
            Fate::Shed => "shed",
            Fate::ShedOnItsWay => "shed on its way",
        }
    }
}

/// A line of `perennial audit --json`.
#[derive(Serialize)]
struct AuditLine<'a> {
    number: u64,
    state: Fate,
    #[serde(flatten)]
    record: &'a SharedRecord,
    #[serde(rename = "to")]
    terms: Option<&'a ShareTerms>,
}

/// Prints the shared records from the number `from` on.
pub(crate) fn audit(state: &Path, from: u64, as_json: bool) -> Result<(), Error> {
    let knowledge = KnowledgeBase::open_to_read(state)?;
    let view = knowledge.view();
    let (outbox, terms) = (view.progress()?.outbox, view.terms()?);
    let mut last_terms = None;
    let mut failed = None;
    view.shared_records(from, |number, record| {
        let state = Fate::of(number, &record, &outbox);
        let known_terms = terms.get(record.terms as usize);
        if as_json {
            let line = serde_json::to_string(&AuditLine {
                number,
                state,
                record: &record,
                terms: known_terms,
            });
            match line {
                Ok(line) => print_line(line),
                Err(error) => failed = Some(error),
            }
            return Ok(());
        }
        if last_terms.replace(record.terms) != Some(record.terms) {
            print_line(known_terms.map(describe_terms).unwrap_or_default());
        }
        print_line(line(number, state, &record));
        Ok(())
    })?;
    if let Some(error) = failed {
        return Err(Error::Failed(error.into()));
    }
    if !as_json && last_terms.is_none() {
        print_line("nothing has left, and nothing waits to");
    }
    Ok(())
}

fn line(number: u64, state: Fate, record: &SharedRecord) -> String {
    let mut line = format!(
        "{number:>8}  {}  epoch {:>8}  {:<7}  {:>6} samples",
        time(record.time),
        record.epoch,
        state.name(),
        record.samples
    );
    if record.statistics > 0 {
        line.push_str(&format!("  {:>5} statistics", record.statistics));
    }
    if record.models > 0 {
        line.push_str(&format!("  {:>5} models", record.models));
    }
    line.push_str(&format!("  {:>8} bytes", record.bytes));
    line
}

fn describe_terms(terms: &ShareTerms) -> String {
    let mut parts = Vec::new();
    if !terms.fields.is_empty() {
        parts.push(format!("{} as they are", terms.fields.join(", ")));
    }
    if !terms.pseudonyms.is_empty() {
        parts.push(format!("pseudonyms of {}", terms.pseudonyms.join(", ")));
    }
    let samples = if terms.samples {
        "time and label"
    } else {
        "no samples"
    };
    parts.push(samples.to_string());
    if !terms.task_fields.is_empty() {
        parts.push(format!("tasks by {}", terms.task_fields.join(", ")));
    }
    if !terms.task_pseudonyms.is_empty() {
        let names = terms.task_pseudonyms.join(", ");
        parts.push(format!("tasks by pseudonyms of {names}"));
    }
    if terms.statistics {
        parts.push("statistics of tasks".to_string());
    }
    if terms.models {
        parts.push("models".to_string());
    }
    format!("to {}: {}", terms.to, parts.join("; "))
}
