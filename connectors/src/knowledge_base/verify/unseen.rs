//! Recount and checks of unseen tasks.

use perennial_operators::algorithms::unseen::{Entry, GroupOutcome, UnseenGrown, UnseenSettled};

use super::{Findings, Recount};
use crate::knowledge_base::{KnowledgeError, View};

impl Recount {
    /// Updates an unseen task, and adds its new labelled samples.
    pub(super) fn grow_unseen(&mut self, grown: UnseenGrown) {
        let task = grown.group.task().task;
        let known = self.unseen.remove(&task).map(|entry| entry.held);
        let mut held = known.unwrap_or_default();
        held.extend(grown.labelled);
        if grown.group.labelled == 0 {
            held.clear();
        }
        held.sort_by_key(|sample| sample.sequence);
        let group = grown.group;
        self.unseen.insert(task, Entry { group, held });
    }

    /// Removes an unseen task that became a task, an alias of one, or nothing.
    pub(super) fn settle_unseen(&mut self, settled: UnseenSettled) {
        self.unseen.remove(&settled.task.task);
        if let GroupOutcome::Alias(old) = settled.became {
            self.aliases.insert(settled.task.task, old);
        }
    }
}

impl View<'_> {
    pub(super) fn verify_unseen(
        &self,
        recount: &Recount,
        findings: &mut Findings,
    ) -> Result<(), KnowledgeError> {
        findings.unless(
            self.unseen()?.iter().eq(recount.unseen.values())
                && self.aliases()? == recount.aliases
                && self.kb.encode(&self.regions()?)? == self.kb.encode(&recount.regions)?,
            "unseen tasks",
            "they differ from what the changes say",
        );
        Ok(())
    }
}
