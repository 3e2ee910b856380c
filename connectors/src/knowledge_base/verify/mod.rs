//! Verification: whether the facts are the sum of the changes, and every reference is valid.
//!
//! A [`Recount`] applies all changes again; each subject has a file with its changes and its
//! checks.

mod memory;
mod model;
mod task;
mod unseen;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use perennial_operators::algorithms::adapter::Adapter;
use perennial_operators::algorithms::cluster::Clusters;
use perennial_operators::algorithms::drift::Detectors;
use perennial_operators::algorithms::recognize::{EpochScores, Reference};
use perennial_operators::algorithms::unseen::{Entry, Regions};
use perennial_operators::flow::{KnowledgeChange, StageKind, StageState};
use perennial_operators::{
    Epoch, MemoryBounded, ModelId, RecentSamples, TaskDefinition, TaskDifference, TaskId,
    TaskScores, TopicPartition,
};
use serde::Serialize;

use self::memory::RetainedLabels;
use super::{KnowledgeError, SkippedTotal, View};

/// A problem of a knowledge base.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The task, model or kind of fact with the problem.
    pub subject: String,
    /// The problem.
    pub problem: String,
}

/// The sum of all changes.
#[derive(Default)]
struct Recount {
    changes: u64,
    clusters: Option<Arc<Clusters>>,
    tasks: BTreeSet<TaskId>,
    unseen: BTreeMap<TaskId, Entry>,
    aliases: BTreeMap<TaskId, TaskDefinition>,
    regions: Regions,
    totals: BTreeMap<TaskId, TaskDifference>,
    windows: BTreeMap<(TaskId, Epoch), TaskScores>,
    adapters: BTreeMap<TaskId, Arc<Adapter>>,
    detectors: BTreeMap<TaskId, Arc<Detectors>>,
    calibration: BTreeMap<Epoch, EpochScores>,
    reference: Option<Arc<Reference>>,
    recents: BTreeMap<(TaskId, Epoch), Arc<RecentSamples>>,
    memory: Option<MemoryBounded>,
    retained: BTreeMap<TaskId, RetainedLabels>,
    trained: BTreeSet<ModelId>,
    deployed: BTreeMap<TaskId, u32>,
    stages: BTreeMap<(ModelId, StageKind), StageState>,
    skipped: BTreeMap<TopicPartition, SkippedTotal>,
}

impl Recount {
    /// Adds a change of an epoch.
    fn add(&mut self, epoch: Epoch, change: KnowledgeChange) {
        use KnowledgeChange::*;
        self.changes += 1;
        match change {
            ClustersFound(clusters) => self.clusters = Some(clusters),
            TaskDefined(definition) => _ = self.tasks.insert(definition.task),
            StatisticsMoved(moved) => self.move_statistics(epoch, moved),
            AdapterMoved(moved) => _ = self.adapters.insert(moved.task, moved.adapter),
            DriftMoved(moved) => _ = self.detectors.insert(moved.task, moved.detectors),
            StageMoved(moved) => {
                _ = self.stages.insert((moved.model, moved.stage), moved.state);
            }
            ModelTrained(trained) => _ = self.trained.insert(trained.model),
            ModelDeployed { model } => _ = self.deployed.insert(model.task, model.version),
            ModelRetired { model } => self.retire_model(model),
            ModelRolledBack { model, to } => self.roll_back_model(model, to),
            MemoryBounded(bounded) => self.memory = Some(bounded),
            SamplesRetained(retained) => self.retain_samples(retained),
            RecentMoved(moved) => self.move_recent(epoch, moved),
            CalibrationMoved(moved) => self.move_calibration(epoch, moved),
            ReferenceDrawn(reference) => self.reference = Some(reference),
            UnseenGrown(grown) => self.grow_unseen(grown),
            UnseenSettled(settled) => self.settle_unseen(settled),
            RegionsMoved(regions) => self.regions = regions,
            RecordsSkipped(skipped) => SkippedTotal::add(&mut self.skipped, &skipped),
            // These facts are not checked.
            TaskPinned { .. }
            | FeaturesScaled { .. }
            | DriftDetected(_)
            | RelationScored(_)
            | ModelEvaluated(_)
            | ModelPromoted { .. }
            | LabelsRequested(_)
            | Followed { .. }
            | ModelDonated(_)
            | TaskPseudonym(_)
            | EdgeReport(_)
            // What was forgotten is not among the changes.
            | Forgotten(_) => {}
        }
    }
}

/// A list of findings.
struct Findings(Vec<Finding>);

impl Findings {
    /// Adds a finding unless `fine`.
    fn unless(&mut self, fine: bool, subject: impl ToString, problem: &str) {
        if !fine {
            self.0.push(Finding {
                subject: subject.to_string(),
                problem: problem.to_string(),
            });
        }
    }
}

impl View<'_> {
    /// Checks the whole knowledge base. It is sound if there are no findings.
    pub fn verify(&self) -> Result<Vec<Finding>, KnowledgeError> {
        let mut recount = Recount::default();
        self.changes(Epoch(0), |epoch, change| {
            recount.add(epoch, change);
            Ok(())
        })?;
        let mut findings = Findings(Vec::new());
        self.verify_tasks(&recount, &mut findings)?;
        self.verify_statistics(&recount, &mut findings)?;
        self.verify_memory(&recount, &mut findings)?;
        self.verify_models(&recount, &mut findings)?;
        let skipped = "the total of skipped records differs from a recount";
        findings.unless(
            self.skipped()? == recount.skipped,
            "records skipped",
            skipped,
        );
        let progress = self.progress()?;
        findings.unless(
            progress.changes == recount.changes,
            "changes",
            "the count of changes differs from a recount",
        );
        Ok(findings.0)
    }
}
