//! Verification: whether the facts are the sum of the changes and every pointer leads somewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use differential_dataflow::difference::Semigroup;
use perennial_operators::algorithms::adapter::Adapter;
use perennial_operators::algorithms::cluster::Clusters;
use perennial_operators::algorithms::drift::Detectors;
use perennial_operators::algorithms::recognize::{EpochScores, Reference};
use perennial_operators::algorithms::retain::class_of;
use perennial_operators::algorithms::unseen::{Entry, GroupOutcome, Regions};
use perennial_operators::flow::{KnowledgeChange, StageKind, StageState};
use perennial_operators::{
    ClassRetained, Epoch, MemoryBounded, ModelId, RecentSamples, SamplesRetained, TaskDefinition,
    TaskDifference, TaskId, TaskScores,
};
use serde::Serialize;

use super::{KnowledgeError, Retained, View};

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is about: a task, a model, a count.
    pub subject: String,
    /// What is wrong.
    pub problem: String,
}

/// Everything that the changes say, added up.
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
    retained: BTreeMap<TaskId, Kept>,
    trained: BTreeSet<ModelId>,
    deployed: BTreeMap<TaskId, u32>,
    stages: BTreeMap<(ModelId, StageKind), StageState>,
}

impl Recount {
    fn add(&mut self, epoch: Epoch, change: KnowledgeChange) {
        self.changes += 1;
        match change {
            KnowledgeChange::ClustersFound(clusters) => {
                self.clusters = Some(clusters);
            }
            KnowledgeChange::TaskDefined(definition) => {
                self.tasks.insert(definition.task);
            }
            KnowledgeChange::UnseenGrown(grown) => {
                let task = grown.group.task().task;
                let before = self.unseen.remove(&task).map(|entry| entry.held);
                let mut held = before.unwrap_or_default();
                held.extend(grown.labelled);
                if grown.group.labelled == 0 {
                    held.clear();
                }
                held.sort_by_key(|sample| sample.sequence);
                let group = grown.group;
                self.unseen.insert(task, Entry { group, held });
            }
            KnowledgeChange::UnseenSettled(settled) => {
                self.unseen.remove(&settled.task.task);
                if let GroupOutcome::Alias(old) = settled.became {
                    self.aliases.insert(settled.task.task, old);
                }
            }
            KnowledgeChange::RegionsMoved(regions) => self.regions = regions,
            KnowledgeChange::StatisticsMoved(moved) => {
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
            KnowledgeChange::AdapterMoved(moved) => {
                self.adapters.insert(moved.task, moved.adapter);
            }
            KnowledgeChange::DriftMoved(moved) => {
                self.detectors.insert(moved.task, moved.detectors);
            }
            KnowledgeChange::CalibrationMoved(moved) => {
                self.calibration.insert(epoch, moved.scores);
                for left in moved.left {
                    self.calibration.remove(&left);
                }
            }
            KnowledgeChange::ReferenceDrawn(reference) => self.reference = Some(reference),
            KnowledgeChange::RecentMoved(moved) => {
                self.recents.insert((moved.task, epoch), moved.samples);
                for left in moved.left {
                    self.recents.remove(&(moved.task, left));
                }
            }
            KnowledgeChange::MemoryBounded(bounded) => self.memory = Some(bounded),
            KnowledgeChange::SamplesRetained(change) => {
                self.retained.entry(change.task).or_default().add(change);
            }
            KnowledgeChange::StageMoved(moved) => {
                self.stages.insert((moved.model, moved.stage), moved.state);
            }
            KnowledgeChange::ModelTrained(trained) => {
                self.trained.insert(trained.model);
            }
            KnowledgeChange::DriftDetected(_)
            | KnowledgeChange::LabelsRequested(_)
            | KnowledgeChange::FeaturesScaled { .. }
            | KnowledgeChange::Followed { .. }
            | KnowledgeChange::TaskPseudonym(_)
            | KnowledgeChange::EdgeReport(_)
            | KnowledgeChange::ModelDonated(_)
            | KnowledgeChange::ModelPromoted { .. }
            | KnowledgeChange::ModelEvaluated(_)
            | KnowledgeChange::RelationScored(_)
            | KnowledgeChange::TaskPinned { .. } => {}
            KnowledgeChange::ModelRolledBack { model, to } => {
                if self.deployed.get(&model.task) != Some(&model.version) {
                    return;
                }
                match to {
                    Some(version) => self.deployed.insert(model.task, version),
                    None => self.deployed.remove(&model.task),
                };
            }
            KnowledgeChange::ModelDeployed { model } => {
                self.deployed.insert(model.task, model.version);
            }
            KnowledgeChange::ModelRetired { model } => {
                let answers = self.deployed.get(&model.task) == Some(&model.version);
                if model.version == 0 || answers {
                    self.deployed.remove(&model.task);
                }
            }
        }
    }
}

/// What the changes say that a task retains.
#[derive(Default)]
struct Kept {
    classes: Vec<ClassRetained>,
    /// Labels by sequence number.
    labels: BTreeMap<u64, f32>,
}

impl Kept {
    fn add(&mut self, change: SamplesRetained) {
        let samples = change.samples.iter();
        self.labels
            .extend(samples.map(|sample| (sample.sequence, sample.label)));
        for sequence in change.dropped {
            self.labels.remove(&sequence);
        }
        self.classes = change.classes;
    }

    fn retained(&self) -> Retained {
        let classes = self.classes.len();
        let labels = self.labels.iter();
        Retained {
            classes: self.classes.clone(),
            samples: labels
                .map(|(sequence, label)| (class_of(*label, classes), *sequence))
                .collect(),
        }
    }
}

/// Collects findings.
struct Findings(Vec<Finding>);

impl Findings {
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
    /// Checks the knowledge base as a whole. No findings means that it is sound.
    pub fn verify(&self) -> Result<Vec<Finding>, KnowledgeError> {
        let mut recount = Recount::default();
        self.changes(Epoch(0), |epoch, change| {
            recount.add(epoch, change);
            Ok(())
        })?;
        let mut findings = Findings(Vec::new());
        self.verify_tasks(&recount, &mut findings)?;
        self.verify_statistics(&recount, &mut findings)?;
        self.verify_models(&recount, &mut findings)?;
        let progress = self.progress()?;
        findings.unless(
            progress.changes == recount.changes,
            "changes",
            "the count of changes differs from a recount",
        );
        Ok(findings.0)
    }

    fn verify_tasks(
        &self,
        recount: &Recount,
        findings: &mut Findings,
    ) -> Result<(), KnowledgeError> {
        findings.unless(
            self.clusters()? == recount.clusters,
            "clusters",
            "they differ from those that the changes say were found",
        );
        let tasks = self.tasks()?;
        findings.unless(
            tasks.keys().eq(recount.tasks.iter()),
            "tasks",
            "the tasks differ from those that the changes define",
        );
        findings.unless(
            self.unseen()?.iter().eq(recount.unseen.values())
                && self.aliases()? == recount.aliases
                && self.kb.encode(&self.regions()?)? == self.kb.encode(&recount.regions)?,
            "unseen tasks",
            "they differ from what the changes say",
        );
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

    fn verify_statistics(
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
        findings.unless(
            self.reference()? == recount.reference
                && self.kb.encode(&self.calibration()?)? == self.kb.encode(&recount.calibration)?,
            "recognition",
            "what samples are compared with differs from what the changes say",
        );
        // As they are written: of missing values none equals another.
        let (found, expected) = (self.recents()?, &recount.recents);
        let mut same = found.keys().eq(expected.keys());
        for (found, expected) in found.values().zip(expected.values()) {
            same &= self.kb.encode(found)? == self.kb.encode(expected)?;
        }
        findings.unless(
            same,
            "recent samples",
            "the recent samples differ from what the changes say",
        );
        self.verify_samples(recount, findings)
    }

    fn verify_samples(
        &self,
        recount: &Recount,
        findings: &mut Findings,
    ) -> Result<(), KnowledgeError> {
        let retained = self.retained()?;
        let recounted = recount.retained.iter();
        findings.unless(
            recounted
                .map(|(task, kept)| (*task, kept.retained()))
                .eq(retained.iter().map(|(task, of)| (*task, of.clone()))),
            "samples",
            "the retained samples differ from a recount of the changes",
        );
        for (task, of) in &retained {
            let seen: u64 = of.classes.iter().map(|class| class.seen).sum();
            let labelled = recount.totals.get(task).map_or(0, |total| total.labelled);
            findings.unless(
                seen <= labelled as u64,
                task,
                "its samples are of more labels than its statistics count",
            );
        }
        let memory = self.memory()?;
        let samples = retained.values().map(|of| of.samples.len() as u64);
        let largest = samples.clone().max().unwrap_or(0);
        findings.unless(
            memory == recount.memory
                && memory.is_none_or(|memory| {
                    largest <= memory.samples_per_task
                        && samples.sum::<u64>() * memory.sample_bytes <= memory.bytes
                }),
            "memory",
            "more samples are retained than may be, or the bound differs from the changes",
        );
        Ok(())
    }

    fn verify_models(
        &self,
        recount: &Recount,
        findings: &mut Findings,
    ) -> Result<(), KnowledgeError> {
        let models = self.models()?;
        findings.unless(
            models.keys().eq(recount.trained.iter()),
            "models",
            "the models differ from those that the changes say were trained",
        );
        for (model, record) in &models {
            if record.deployed.is_none() {
                continue;
            }
            match self.onnx(*model) {
                Ok(bytes) => findings.unless(
                    bytes.len() as u64 == record.trained.bytes,
                    format!("model {} of task {}", model.version, model.task),
                    "its size differs from its record",
                ),
                Err(KnowledgeError::Damaged { detail, .. }) => findings.0.push(Finding {
                    subject: format!("model {} of task {}", model.version, model.task),
                    problem: detail,
                }),
                Err(error) => return Err(error),
            }
        }
        let stages: BTreeMap<(ModelId, StageKind), StageState> = self
            .stages()?
            .into_iter()
            .map(|(stage, record)| (stage, record.state()))
            .collect();
        findings.unless(
            stages == recount.stages,
            "stages",
            "the stages differ from a recount of the changes",
        );
        Ok(())
    }
}
