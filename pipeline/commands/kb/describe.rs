//! Knowledge changes for people.

use std::collections::BTreeMap;

use perennial_connectors::knowledge_base::TaskRecord;
use perennial_operators::algorithms::drift::{Detector, DriftDetected};
use perennial_operators::algorithms::unseen::{GroupOutcome, UnseenGrown, UnseenSettled};
use perennial_operators::flow::KnowledgeChange;
use perennial_operators::{LabelKind, Rise, TaskId};

use super::figures::{model_figures, version};
use crate::terminal::number;

/// Drift for people: `error rate 0.412 over the last 320 labels, 0.251 before (ADWIN)`.
pub fn drift(kind: LabelKind, detected: &DriftDetected) -> String {
    let Rise {
        before,
        after,
        samples,
    } = detected.rise;
    let what = match kind {
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
    format!("{what} {after:.3} over the last {samples} labels, {before:.3} before ({detector})")
}

/// A change in one line.
pub fn describe(
    tasks: &BTreeMap<TaskId, TaskRecord>,
    kind: LabelKind,
    change: &KnowledgeChange,
) -> String {
    let of = |task: &TaskId| match tasks.get(task) {
        Some(record) => record.definition.name.to_string(),
        None => task.to_string(),
    };
    let [_, loss] = model_figures(kind);
    match change {
        KnowledgeChange::TaskDefined(definition) => format!("task defined: {}", definition.name),
        KnowledgeChange::ClustersFound(clusters) => {
            let names: Vec<&str> = clusters
                .features
                .iter()
                .map(|feature| &*feature.name)
                .collect();
            format!("clusters found: {} of {}", clusters.len(), names.join(", "))
        }
        KnowledgeChange::StatisticsMoved(moved) => {
            let (score, labelled) = (&moved.difference.score, moved.difference.labelled);
            let scored = match kind {
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
            let task = of(&moved.task);
            format!("statistics moved: {task}: {labelled} labelled, {scored}")
        }
        KnowledgeChange::MemoryBounded(bounded) => format!(
            "memory bounded: {} samples a task, {} bytes",
            bounded.samples_per_task, bounded.bytes,
        ),
        KnowledgeChange::SamplesRetained(retained) => format!(
            "samples retained: {}: {}, {} dropped",
            of(&retained.task),
            retained.samples.len(),
            retained.dropped.len(),
        ),
        KnowledgeChange::StageMoved(moved) => format!(
            "stage moved: {} v{}: {:?} {:?} {}",
            of(&moved.model.task),
            moved.model.version,
            moved.stage,
            moved.state,
            moved.detail,
        ),
        KnowledgeChange::UnseenGrown(UnseenGrown { group, .. }) => format!(
            "unseen task grown: {}: {} samples, {} labels held{}",
            group.task().name,
            group.samples,
            group.labelled,
            if group.trying {
                ", tried on other tasks"
            } else {
                ""
            },
        ),
        KnowledgeChange::UnseenSettled(settled) => {
            let UnseenSettled {
                samples, labelled, ..
            } = settled;
            let what = became(&settled.became);
            let name = &settled.task.name;
            format!(
                "unseen task settled: {name}: {what}, after {samples} samples and {labelled} labels"
            )
        }
        KnowledgeChange::RegionsMoved(regions) => {
            format!("regions moved: {}", regions.regions.len())
        }
        KnowledgeChange::LabelsRequested(requested) => {
            let ids = requested.requests.iter().map(|request| request.id.as_str());
            format!("labels requested: {}", ids.collect::<Vec<_>>().join(", "))
        }
        KnowledgeChange::Followed {
            task,
            donor,
            revision,
        } => {
            let whose = donor
                .as_ref()
                .map_or(String::new(), |donor| format!(" of {donor}"));
            let (task, number) = (of(task), revision.number);
            format!("taken in from the cloud: {task}{whose}, revision {number}")
        }
        KnowledgeChange::ModelPromoted { model } => {
            format!(
                "model promoted: {} v{}, for all edges",
                of(&model.task),
                model.version
            )
        }
        KnowledgeChange::ModelDonated(donated) => {
            let name = donated.path.last().map_or("", |task| &task.name);
            format!("model donated: {name}, by {}", donated.donor)
        }
        KnowledgeChange::TaskPseudonym(renamed) => format!(
            "known elsewhere as: {} is {}",
            renamed.here.name, renamed.elsewhere.name
        ),
        KnowledgeChange::EdgeReport(reported) => format!(
            "edge {} reported: {}, {} labels",
            reported.edge, reported.statistics.task.name, reported.statistics.labelled
        ),
        KnowledgeChange::DriftMoved(moved) => format!("drift watched: {}", of(&moved.task)),
        KnowledgeChange::DriftDetected(detected) => {
            let task = of(&detected.task);
            format!("drift detected: {task}: {}", drift(kind, detected))
        }
        KnowledgeChange::CalibrationMoved(moved) => {
            format!("calibration moved: {} samples", moved.scores.scores.len())
        }
        KnowledgeChange::ReferenceDrawn(reference) => format!(
            "reference drawn: {} tasks, covariance shrunk by {:.3}",
            reference.tasks.len(),
            reference.shrinkage
        ),
        KnowledgeChange::AdapterMoved(moved) => format!("adapter moved: {}", of(&moved.task)),
        KnowledgeChange::RecentMoved(moved) => format!(
            "recent samples moved: {}: {}",
            of(&moved.task),
            moved.samples.labels.len()
        ),
        KnowledgeChange::FeaturesScaled { deviations } => {
            format!("features scaled: {}", deviations.len())
        }
        KnowledgeChange::ModelTrained(trained) => format!(
            "model trained: {} v{}: {} samples, {}",
            of(&trained.model.task),
            trained.model.version,
            trained.samples,
            trained.hash,
        ),
        KnowledgeChange::ModelEvaluated(evaluated) => format!(
            "model evaluated: {} v{}: {loss} {:.4}, before {}",
            of(&evaluated.model.task),
            evaluated.model.version,
            evaluated.log_loss,
            number(evaluated.incumbent_log_loss),
        ),
        KnowledgeChange::ModelDeployed { model } => {
            format!("model deployed: {} v{}", of(&model.task), model.version)
        }
        KnowledgeChange::ModelRetired { model } => {
            format!("model retired: {} v{}", of(&model.task), model.version)
        }
        KnowledgeChange::ModelRolledBack { model, to } => format!(
            "model rolled back: {} v{} to {}",
            of(&model.task),
            model.version,
            version(*to),
        ),
        KnowledgeChange::TaskPinned { task, pinned } => {
            let what = if *pinned { "pinned" } else { "unpinned" };
            format!("task {what}: {}", of(task))
        }
        KnowledgeChange::RelationScored(scored) => format!(
            "relation scored: {}: {loss} {:.4} of {} v{}",
            of(&scored.task),
            scored.log_loss,
            of(&scored.model.task),
            scored.model.version,
        ),
    }
}

/// What became of an unseen task.
pub fn became(became: &GroupOutcome) -> String {
    match became {
        GroupOutcome::Task => "it is a task".to_string(),
        GroupOutcome::Alias(old) => format!("it is {}", old.name),
        GroupOutcome::Known => "its samples look like known ones".to_string(),
        GroupOutcome::Forgotten => "it made room for others".to_string(),
    }
}
