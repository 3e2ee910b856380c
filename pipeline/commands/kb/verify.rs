//! `perennial kb verify`: checks a knowledge base against its own log.

use perennial_connectors::knowledge_base::View;

use crate::error::Error;
use crate::terminal::{print_json, print_line};

pub(crate) fn verify(view: &View<'_>, as_json: bool) -> Result<(), Error> {
    let findings = view.verify()?;
    if as_json {
        print_json(&findings)?;
    } else if findings.is_empty() {
        let progress = view.progress()?;
        let epochs = progress.header.map_or(0, |header| header.epoch.0 + 1);
        print_line(format!(
            "sound: {} changes in {epochs} epochs",
            progress.changes
        ));
    }
    match findings.first() {
        None => Ok(()),
        Some(first) => Err(Error::Unsound(format!(
            "{} findings, the first: {}: {}",
            findings.len(),
            first.subject,
            first.problem
        ))),
    }
}
