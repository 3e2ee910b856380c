//! Knowledge changes as lines of text.

use std::collections::BTreeMap;

use perennial_connectors::knowledge_base::TaskRecord;
use perennial_operators::algorithms::drift::{Detector, DriftDetected};
use perennial_operators::algorithms::unseen::{GroupOutcome, UnseenGroup, UnseenSettled};
use perennial_operators::flow::{KnowledgeChange, RecordsSkipped, StatisticsMoved};
use perennial_operators::{LabelKind, ModelId, Rise, TaskId};

use super::figures::{model_figures, version};
use crate::report::task_name;
use crate::terminal::number;

/// Describes the changes of a knowledge base.
pub(crate) struct Describer<'a> {
    tasks: &'a BTreeMap<TaskId, TaskRecord>,
    kind: LabelKind,
    /// Name of the loss of models.
    loss: &'static str,
}

impl<'a> Describer<'a> {
    pub(crate) fn new(tasks: &'a BTreeMap<TaskId, TaskRecord>, kind: LabelKind) -> Self {
        let [_, loss] = model_figures(kind);
        Describer { tasks, kind, loss }
    }

    /// A change in one line.
    pub(crate) fn describe(&self, change: &KnowledgeChange) -> String {
        let loss = self.loss;
        match change {
            KnowledgeChange::TaskDefined(task) => format!("task defined: {}", task.name),
            KnowledgeChange::Forgotten(forgotten) => format!(
                "forgotten: {} tasks with {} retained samples; {} changes removed",
                forgotten.tasks, forgotten.samples, forgotten.changes
            ),
            KnowledgeChange::TaskPinned { task, pinned } => {
                let what = if *pinned { "pinned" } else { "unpinned" };
                format!("task {what}: {}", self.task(*task))
            }
            KnowledgeChange::TaskPseudonym(renamed) => {
                let (here, elsewhere) = (&renamed.here.name, &renamed.elsewhere.name);
                format!("known elsewhere as: {here} is {elsewhere}")
            }
            KnowledgeChange::ClustersFound(clusters) => {
                let features = clusters.features.iter();
                let names: Vec<&str> = features.map(|feature| &*feature.name).collect();
                format!("clusters found: {} of {}", clusters.len(), names.join(", "))
            }
            KnowledgeChange::StatisticsMoved(moved) => self.statistics(moved),
            KnowledgeChange::DriftMoved(moved) => {
                format!("drift watched: {}", self.task(moved.task))
            }
            KnowledgeChange::DriftDetected(detected) => {
                let task = self.task(detected.task);
                format!("drift detected: {task}: {}", self.drift(detected))
            }
            KnowledgeChange::AdapterMoved(moved) => {
                format!("adapter moved: {}", self.task(moved.task))
            }
            KnowledgeChange::RecentMoved(moved) => {
                let (task, samples) = (self.task(moved.task), moved.samples.labels.len());
                format!("recent samples moved: {task}: {samples}")
            }
            KnowledgeChange::MemoryBounded(bounded) => format!(
                "memory bounded: {} samples a task, {} bytes",
                bounded.samples_per_task, bounded.bytes,
            ),
            KnowledgeChange::SamplesRetained(retained) => format!(
                "samples retained: {}: {}, {} dropped",
                self.task(retained.task),
                retained.samples.len(),
                retained.dropped.len(),
            ),
            KnowledgeChange::UnseenGrown(grown) => describe_group(&grown.group),
            KnowledgeChange::UnseenSettled(settled) => describe_settled(settled),
            KnowledgeChange::RegionsMoved(regions) => {
                format!("regions moved: {}", regions.regions.len())
            }
            KnowledgeChange::LabelsRequested(requested) => {
                let requests = requested.requests.iter();
                let ids: Vec<&str> = requests.map(|request| request.id.as_str()).collect();
                format!("labels requested: {}", ids.join(", "))
            }
            KnowledgeChange::CalibrationMoved(moved) => {
                format!("calibration moved: {} samples", moved.scores.scores.len())
            }
            KnowledgeChange::ReferenceDrawn(reference) => format!(
                "reference drawn: {} tasks, covariance shrunk by {:.3}",
                reference.tasks.len(),
                reference.shrinkage
            ),
            KnowledgeChange::FeaturesScaled { deviations } => {
                format!("features scaled: {}", deviations.len())
            }
            KnowledgeChange::StageMoved(moved) => format!(
                "stage moved: {}: {:?} {:?} {}",
                self.model(moved.model),
                moved.stage,
                moved.state,
                moved.detail,
            ),
            KnowledgeChange::ModelTrained(trained) => {
                let (model, samples) = (self.model(trained.model), trained.samples);
                format!(
                    "model trained: {model}: {samples} samples, {}",
                    trained.hash
                )
            }
            KnowledgeChange::ModelEvaluated(evaluated) => format!(
                "model evaluated: {}: {loss} {:.4}, before {}",
                self.model(evaluated.model),
                evaluated.log_loss,
                number(evaluated.incumbent_log_loss),
            ),
            KnowledgeChange::RelationScored(scored) => {
                let (task, model) = (self.task(scored.task), self.model(scored.model));
                let value = scored.log_loss;
                format!("relation scored: {task}: {loss} {value:.4} of {model}")
            }
            KnowledgeChange::ModelDeployed { model } => {
                format!("model deployed: {}", self.model(*model))
            }
            KnowledgeChange::ModelRetired { model } => {
                format!("model retired: {}", self.model(*model))
            }
            KnowledgeChange::ModelRolledBack { model, to } => {
                let (model, to) = (self.model(*model), version(*to));
                format!("model rolled back: {model} to {to}")
            }
            KnowledgeChange::ModelPromoted { model } => {
                format!("model promoted: {}, for all edges", self.model(*model))
            }
            KnowledgeChange::ModelDonated(donated) => {
                let name = donated.path.last().map_or("", |task| &task.name);
                format!("model donated: {name}, by {}", donated.donor)
            }
            KnowledgeChange::Followed {
                task,
                donor,
                revision,
            } => {
                let donor = donor.as_ref();
                let donor = donor.map_or(String::new(), |donor| format!(" of {donor}"));
                let (task, number) = (self.task(*task), revision.number);
                format!("taken in from the cloud: {task}{donor}, revision {number}")
            }
            KnowledgeChange::RecordsSkipped(skipped) => {
                format!("records skipped: {}", describe_skipped(skipped))
            }
            KnowledgeChange::EdgeReport(reported) => format!(
                "edge {} reported: {}, {} labels",
                reported.edge, reported.statistics.task.name, reported.statistics.labelled
            ),
        }
    }

    fn task(&self, task: TaskId) -> String {
        task_name(self.tasks, task)
    }

    fn model(&self, model: ModelId) -> String {
        format!("{} v{}", self.task(model.task), model.version)
    }

    fn statistics(&self, moved: &StatisticsMoved) -> String {
        let (score, labelled) = (&moved.difference.score, moved.difference.labelled);
        let scored = match self.kind {
            LabelKind::Classes(_) => format!(
                "{} of {} right, log loss {}",
                score.correct,
                score.count,
                number(score.log_loss())
            ),
            LabelKind::Number => {
                format!("{} scored, RMSE {}", score.count, number(score.rmse()))
            }
        };
        let task = self.task(moved.task);
        format!("statistics moved: {task}: {labelled} labelled, {scored}")
    }

    /// Drift, such as `error rate 0.412 over the last 320 labels, 0.251 before (ADWIN)`.
    fn drift(&self, detected: &DriftDetected) -> String {
        let Rise {
            before,
            after,
            samples,
        } = detected.rise;
        let loss = match self.kind {
            LabelKind::Classes(_) => "error rate",
            LabelKind::Number => "mean error",
        };
        let detector = match detected.detector {
            Detector::Features => {
                return format!("samples look stranger: {after:.3}, {before:.3} before (features)");
            }
            Detector::Adwin => "ADWIN",
            Detector::PageHinkley => "Page-Hinkley",
        };
        format!("{loss} {after:.3} over the last {samples} labels, {before:.3} before ({detector})")
    }
}

fn describe_group(group: &UnseenGroup) -> String {
    let trying = if group.trying {
        ", tried on other tasks"
    } else {
        ""
    };
    format!(
        "unseen task grown: {}: {} samples, {} labels held{trying}",
        group.task().name,
        group.samples,
        group.labelled,
    )
}

fn describe_settled(settled: &UnseenSettled) -> String {
    format!(
        "unseen task settled: {}: {}, after {} samples and {} labels",
        settled.task.name,
        describe_outcome(&settled.became),
        settled.samples,
        settled.labelled
    )
}

/// What was skipped of a partition.
pub(crate) fn describe_skipped(skipped: &RecordsSkipped) -> String {
    let RecordsSkipped {
        place, from, to, ..
    } = skipped;
    let (topic, partition) = (&place.topic, place.partition);
    if skipped.is_remade {
        return format!("{topic}[{partition}], made anew: from offset {to} on, after {from}");
    }
    format!("{topic}[{partition}], deleted before they were read: offsets {from} to {to}")
}

/// What became of an unseen task.
pub(crate) fn describe_outcome(outcome: &GroupOutcome) -> String {
    match outcome {
        GroupOutcome::Task => "it is a task".to_string(),
        GroupOutcome::Alias(known) => format!("it is {}", known.name),
        GroupOutcome::Known => "its samples look like known ones".to_string(),
        GroupOutcome::Forgotten => "it made room for others".to_string(),
    }
}
