//! Verification: whether the facts are the sum of the changes and every pointer leads somewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use differential_dataflow::difference::Semigroup;
use perennial_operators::cluster::Clusters;
use perennial_operators::{
    Adapter, Epoch, KnowledgeChange, ModelId, StageKind, StageState, TaskDifference, TaskId,
    TaskScores,
};
use serde::Serialize;

use super::{KnowledgeError, View};

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
    totals: BTreeMap<TaskId, TaskDifference>,
    windows: BTreeMap<(TaskId, Epoch), TaskScores>,
    adapters: BTreeMap<TaskId, Arc<Adapter>>,
    slots: BTreeMap<TaskId, BTreeMap<u32, u64>>,
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
            KnowledgeChange::SamplesRetained { task, samples } => {
                let slots = self.slots.entry(task).or_default();
                slots.extend(samples.iter().map(|sample| (sample.slot, sample.sequence)));
            }
            KnowledgeChange::StageMoved(moved) => {
                self.stages.insert((moved.model, moved.stage), moved.state);
            }
            KnowledgeChange::ModelTrained(trained) => {
                self.trained.insert(trained.model);
            }
            KnowledgeChange::ModelEvaluated(_)
            | KnowledgeChange::RelationScored(_)
            | KnowledgeChange::TaskPinned { .. } => {}
            KnowledgeChange::ModelRolledBack { model, to } => {
                match to {
                    Some(version) => self.deployed.insert(model.task, version),
                    None => self.deployed.remove(&model.task),
                };
            }
            KnowledgeChange::ModelDeployed { model } => {
                self.deployed.insert(model.task, model.version);
            }
            KnowledgeChange::ModelRetired { model } => {
                self.deployed.remove(&model.task);
            }
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
        let slots: BTreeMap<TaskId, BTreeMap<u32, u64>> = self
            .slots()?
            .into_iter()
            .map(|(task, slots)| (task, slots.into_iter().collect()))
            .collect();
        findings.unless(
            slots == recount.slots,
            "samples",
            "the retained samples differ from a recount of the changes",
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
