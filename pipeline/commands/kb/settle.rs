//! `perennial kb settle`: settles a prepared commit by hand.

use std::path::Path;

use perennial_connectors::knowledge_base::KnowledgeBase;

use super::Settle;
use crate::error::Error;
use crate::terminal::print_line;

/// Applies or drops the prepared commit.
pub(super) fn settle(state: &Path, how: Settle) -> Result<(), Error> {
    let knowledge = KnowledgeBase::open_to_settle(state)?;
    let Some(number) = knowledge.prepared()? else {
        return Err(Error::NotFound(
            "no commit is prepared, so there is nothing to settle".to_string(),
        ));
    };
    let known = knowledge.view().progress()?.commits;
    if number != known + 1 {
        return Err(Error::NotFound(format!(
            "the knowledge base is at commit {known} and commit {number} is prepared, which does not follow it: the next run drops it"
        )));
    }
    let settled = match how {
        Settle::Apply => {
            knowledge.apply_prepared()?;
            "applied"
        }
        Settle::Drop => {
            knowledge.drop_prepared()?;
            "dropped"
        }
    };
    print_line(format!("commit {number} is {settled}"));
    Ok(())
}
