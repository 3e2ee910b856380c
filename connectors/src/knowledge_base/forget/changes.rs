//! The record of changes, without those that name a forgotten task or have its samples.

use perennial_operators::algorithms::unseen::{
    GroupOutcome, LabelsRequested, UnseenGrown, UnseenSettled,
};
use perennial_operators::flow::{KnowledgeChange, is_held_forgotten};
use perennial_operators::{Erasure, TaskId};
use rocksdb::{IteratorMode, WriteBatch};

use super::BATCH;
use crate::knowledge_base::layout::Family;
use crate::knowledge_base::{KnowledgeBase, KnowledgeError};

/// What becomes of a change.
enum Kept {
    /// It stays as it is.
    Same,
    /// It stays without what is forgotten.
    Changed(KnowledgeChange),
    /// It is removed.
    Removed,
}

impl Kept {
    fn unless(is_forgotten: bool) -> Kept {
        if is_forgotten {
            Kept::Removed
        } else {
            Kept::Same
        }
    }
}

impl KnowledgeBase {
    /// Rewrites the record of changes. Returns the numbers of changes that are left and that were
    /// removed.
    pub(super) fn forget_changes(&self, erasure: &Erasure) -> Result<(u64, u64), KnowledgeError> {
        let family = self.family(Family::Changes)?;
        let (mut left, mut removed) = (0, 0);
        let mut batch = WriteBatch::default();
        for entry in self.db.iterator_cf(family, IteratorMode::Start) {
            let (key, block) = entry.map_err(|error| self.storage(&error))?;
            let (mut rest, mut rewritten, mut is_changed) = (&*block, Vec::new(), false);
            while !rest.is_empty() {
                let (change, remaining): (KnowledgeChange, _) =
                    postcard::take_from_bytes(rest).map_err(|error| self.damaged(&error))?;
                let bytes = &rest[..rest.len() - remaining.len()];
                let kept = self.keep(change, erasure)?;
                is_changed |= !matches!(kept, Kept::Same);
                left += u64::from(!matches!(kept, Kept::Removed));
                match kept {
                    Kept::Same => rewritten.extend_from_slice(bytes),
                    Kept::Changed(change) => rewritten = self.append(rewritten, &change)?,
                    Kept::Removed => removed += 1,
                }
                rest = remaining;
            }
            match (is_changed, rewritten.is_empty()) {
                (false, _) => {}
                (true, true) => batch.delete_cf(family, &key),
                (true, false) => batch.put_cf(family, &key, &rewritten),
            }
            if batch.size_in_bytes() >= BATCH {
                self.write(std::mem::take(&mut batch))?;
            }
        }
        self.write(batch)?;
        Ok((left, removed))
    }

    /// Decides about a change.
    fn keep(&self, change: KnowledgeChange, erasure: &Erasure) -> Result<Kept, KnowledgeError> {
        use KnowledgeChange::*;
        let is_gone = |task: &TaskId| erasure.tasks.contains(task);
        Ok(match change {
            TaskDefined(task) => Kept::unless(erasure.covers(&task)),
            TaskPseudonym(named) => Kept::unless(erasure.covers(&named.here)),
            EdgeReport(report) => Kept::unless(erasure.covers(&report.statistics.task)),
            ModelDonated(donated) => Kept::unless(erasure.covers_path(&donated.path)),
            UnseenGrown(grown) => self.keep_grown(grown, erasure)?,
            UnseenSettled(settled) => Kept::unless(is_settled_forgotten(&settled, erasure)),
            LabelsRequested(requested) => keep_requests(requested, erasure),
            // They have samples, and it is not known of which tasks.
            RegionsMoved(_) | ReferenceDrawn(_) => Kept::Removed,
            StageMoved(mut moved) => match erasure.redact(&moved.detail) {
                _ if is_gone(&moved.model.task) => Kept::Removed,
                None => Kept::Same,
                Some(detail) => {
                    moved.detail = detail;
                    Kept::Changed(StageMoved(moved))
                }
            },
            RelationScored(scored) => {
                Kept::unless(is_gone(&scored.task) || is_gone(&scored.model.task))
            }
            StatisticsMoved(moved) => Kept::unless(is_gone(&moved.task)),
            AdapterMoved(moved) => Kept::unless(is_gone(&moved.task)),
            RecentMoved(moved) => Kept::unless(is_gone(&moved.task)),
            DriftMoved(moved) => Kept::unless(is_gone(&moved.task)),
            DriftDetected(detected) => Kept::unless(is_gone(&detected.task)),
            SamplesRetained(retained) => Kept::unless(is_gone(&retained.task)),
            ModelTrained(trained) => Kept::unless(is_gone(&trained.model.task)),
            ModelEvaluated(evaluated) => Kept::unless(is_gone(&evaluated.model.task)),
            ModelDeployed { model }
            | ModelRetired { model }
            | ModelRolledBack { model, .. }
            | ModelPromoted { model } => Kept::unless(is_gone(&model.task)),
            TaskPinned { task, .. } | Followed { task, .. } => Kept::unless(is_gone(&task)),
            CalibrationMoved(_)
            | FeaturesScaled { .. }
            | MemoryBounded(_)
            | ClustersFound(_)
            | RecordsSkipped(_)
            | Forgotten(_) => Kept::Same,
        })
    }

    fn keep_grown(
        &self,
        mut grown: UnseenGrown,
        erasure: &Erasure,
    ) -> Result<Kept, KnowledgeError> {
        if erasure.covers_path(&grown.group.path.nodes) {
            return Ok(Kept::Removed);
        }
        let count = grown.labelled.len();
        let mut labelled = Vec::with_capacity(count);
        for held in grown.labelled {
            let is_forgotten = is_held_forgotten(&held, erasure);
            if !is_forgotten.map_err(|error| self.damaged(&error))? {
                labelled.push(held);
            }
        }
        grown.labelled = labelled;
        Ok(if grown.labelled.len() == count {
            Kept::Same
        } else {
            Kept::Changed(KnowledgeChange::UnseenGrown(grown))
        })
    }
}

fn is_settled_forgotten(settled: &UnseenSettled, erasure: &Erasure) -> bool {
    let is_alias = match &settled.became {
        GroupOutcome::Alias(of) => erasure.covers(of),
        GroupOutcome::Task | GroupOutcome::Known | GroupOutcome::Forgotten => false,
    };
    is_alias || erasure.covers(&settled.task)
}

fn keep_requests(mut requested: LabelsRequested, erasure: &Erasure) -> Kept {
    let asked = requested.asked.clone();
    requested.asked.forget(erasure);
    let count = requested.requests.len();
    requested
        .requests
        .retain(|request| !request.is_forgotten(erasure));
    match requested.requests.len() {
        0 if count > 0 => Kept::Removed,
        left if left == count && requested.asked == asked => Kept::Same,
        _ => Kept::Changed(KnowledgeChange::LabelsRequested(requested)),
    }
}
