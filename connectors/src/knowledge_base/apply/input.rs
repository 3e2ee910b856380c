//! Changes of the input: the topics that positions are of, and records that were skipped.

use std::collections::BTreeMap;
use std::sync::Arc;

use perennial_operators::flow::{EpochEffects, RecordsSkipped};

use super::CommitWriter;
use crate::knowledge_base::layout::{Family, META_SKIPPED, META_TOPICS, refused_key};
use crate::knowledge_base::{KnowledgeError, SkippedTotal};

impl CommitWriter<'_> {
    /// Sets the ids of topics that were opened.
    pub(super) fn topics(&mut self, epochs: &[EpochEffects]) -> Result<(), KnowledgeError> {
        let intakes = epochs.iter().filter_map(|effects| effects.intake.as_ref());
        let opened = intakes.flat_map(|intake| &intake.topics);
        let opened: BTreeMap<Arc<str>, String> = opened
            .map(|(name, id)| (name.clone(), id.clone()))
            .collect();
        if opened.is_empty() {
            return Ok(());
        }
        let stored = self.kb.get(Family::Meta, META_TOPICS)?;
        let mut topics: BTreeMap<Arc<str>, String> = stored.unwrap_or_default();
        topics.extend(opened);
        self.put_meta(META_TOPICS, &topics)
    }

    /// Adds refused messages of edges, and removes those that a restart would read no more.
    pub(super) fn refused(&mut self, epochs: &[EpochEffects]) -> Result<(), KnowledgeError> {
        let family = self.kb.family(Family::Meta)?;
        for intake in epochs.iter().filter_map(|effects| effects.intake.as_ref()) {
            for message in &intake.refused.added {
                self.put(Family::Meta, &refused_key(message), message)?;
            }
            for message in &intake.refused.passed {
                self.batch.delete_cf(family, refused_key(message));
            }
        }
        Ok(())
    }

    /// Adds to what was skipped of a partition.
    pub(super) fn skip_records(&mut self, skipped: &RecordsSkipped) -> Result<(), KnowledgeError> {
        let mut totals = match self.skipped.take() {
            Some(totals) => totals,
            None => {
                let stored = self.kb.get(Family::Meta, META_SKIPPED)?;
                stored.unwrap_or_default()
            }
        };
        SkippedTotal::add(&mut totals, skipped);
        self.skipped = Some(totals);
        Ok(())
    }
}
