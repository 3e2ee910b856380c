//! Recount and checks of tasks and their statistics.

use differential_dataflow::difference::Semigroup;
use perennial_operators::Epoch;
use perennial_operators::flow::StatisticsMoved;

use super::{Findings, Recount};
use crate::knowledge_base::{KnowledgeError, View};

impl Recount {
    /// Adds to the totals of a task, and moves its window.
    pub(super) fn move_statistics(&mut self, epoch: Epoch, moved: StatisticsMoved) {
        let total = self.totals.entry(moved.task).or_default();
        total.plus_equals(&*moved.difference);
        if moved.difference.score.count > 0 {
            self.windows
                .insert((moved.task, epoch), moved.difference.scores());
        }
        for left in moved.left {
            self.windows.remove(&(moved.task, left));
        }
    }
}

impl View<'_> {
    pub(super) fn verify_tasks(
        &self,
        recount: &Recount,
        findings: &mut Findings,
    ) -> Result<(), KnowledgeError> {
        findings.unless(
            self.clusters()? == recount.clusters,
            "clusters",
            "the clusters differ from what the changes say",
        );
        let tasks = self.tasks()?;
        findings.unless(
            tasks.keys().eq(recount.tasks.iter()),
            "tasks",
            "the tasks differ from those that the changes define",
        );
        self.verify_unseen(recount, findings)?;
        for (task, record) in &tasks {
            let name = &record.definition.name;
            let parent = record.definition.parent;
            findings.unless(
                parent.is_none_or(|parent| tasks.contains_key(&parent)),
                name,
                "its parent is not defined",
            );
            findings.unless(
                record.deployed == recount.deployed.get(task).copied(),
                name,
                "the deployed model differs from the changes",
            );
        }
        Ok(())
    }

    pub(super) fn verify_statistics(
        &self,
        recount: &Recount,
        findings: &mut Findings,
    ) -> Result<(), KnowledgeError> {
        findings.unless(
            self.statistics()? == recount.totals,
            "statistics",
            "the totals differ from a recount of the changes",
        );
        findings.unless(
            self.windows()? == recount.windows,
            "windows",
            "the windows differ from a recount of the changes",
        );
        findings.unless(
            self.adapters()? == recount.adapters,
            "adapters",
            "the adapters differ from what the changes say",
        );
        findings.unless(
            self.detectors()? == recount.detectors,
            "drift",
            "what watches tasks for drift differs from what the changes say",
        );
        Ok(())
    }
}
