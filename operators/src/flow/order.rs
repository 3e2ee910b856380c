//! Order of knowledge changes within an epoch.

use super::change::KnowledgeChange;
use super::stage::{StageKind, StageState};
use crate::data::{ModelId, TaskId};

/// Position of a change among the changes of its epoch, the same for any number of workers.
///
/// Changes compare by kind, then by task, then by step. Changes that compare equal keep the order
/// in which they arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChangeOrder {
    kind: Kind,
    task: TaskId,
    step: Step,
}

/// Kinds of changes, in their order within an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// Records were skipped.
    Input,
    /// Clusters of features were found.
    Clusters,
    /// Tasks were forgotten, defined and named; unseen tasks grew and were settled.
    Tasks,
    /// Regions of features moved.
    Regions,
    /// Labels were requested.
    Requests,
    /// Statistics moved, those of edges included.
    Statistics,
    /// Adapters, recent samples, drift detectors and the calibration moved.
    Corrections,
    /// The memory's bounds were set.
    Bounds,
    /// Samples were retained and dropped.
    Memory,
    /// Models went through their stages.
    Learning,
}

/// Steps of one kind of change for one task, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    /// The only step of its kind.
    Only,

    // Input.
    Skipped(i32),

    // Tasks.
    Forgotten,
    Defined,
    Named,
    Settled,
    /// After `Settled`: a group that made room for another one can start anew in the same epoch.
    Grown,

    // Statistics.
    Counted,
    Reported,

    // Corrections.
    Adapted,
    Kept,
    Watched,
    Drifted,
    Calibrated,

    // Learning.
    /// Features were scaled, or a relation was scored. A task is in one training at a time.
    Measured,
    /// Before the stages of new models, which are judged against the restored model.
    RolledBack,
    Pinned,
    Referenced,
    Followed,
    Donated,
    /// A stage of one version of the task's model.
    Stage {
        version: u32,
        stage: StageKind,
        moment: Moment,
    },
}

/// Moments of a stage, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Moment {
    Waiting,
    Ready,
    Starting,
    Running,
    /// The stage's result is known; only then is the stage completed.
    Result,
    Completed,
    /// The stage failed, or the model that it deployed was promoted.
    FailedOrPromoted,
    Retired,
}

impl From<StageState> for Moment {
    fn from(state: StageState) -> Self {
        match state {
            StageState::Waiting => Moment::Waiting,
            StageState::Ready => Moment::Ready,
            StageState::Starting => Moment::Starting,
            StageState::Running => Moment::Running,
            StageState::Completed => Moment::Completed,
            StageState::Failed => Moment::FailedOrPromoted,
        }
    }
}

impl KnowledgeChange {
    /// Position of the change among the changes of its epoch.
    pub fn order(&self) -> ChangeOrder {
        use StageKind::{Deploy, Evaluate, Train};

        let at = |kind, task, step| ChangeOrder { kind, task, step };
        let stage = |model: &ModelId, stage, moment| {
            let version = model.version;
            let step = Step::Stage {
                version,
                stage,
                moment,
            };
            at(Kind::Learning, model.task, step)
        };
        match self {
            Self::RecordsSkipped(skipped) => {
                let partition = skipped.place.partition;
                at(Kind::Input, TaskId::BASE, Step::Skipped(partition))
            }

            Self::ClustersFound(_) => at(Kind::Clusters, TaskId::BASE, Step::Only),

            Self::Forgotten(_) => at(Kind::Tasks, TaskId::BASE, Step::Forgotten),
            Self::TaskDefined(defined) => at(Kind::Tasks, defined.task, Step::Defined),
            Self::TaskPseudonym(named) => at(Kind::Tasks, named.here.task, Step::Named),
            Self::UnseenSettled(settled) => at(Kind::Tasks, settled.task.task, Step::Settled),
            Self::UnseenGrown(grown) => at(Kind::Tasks, grown.group.task().task, Step::Grown),

            Self::RegionsMoved(_) => at(Kind::Regions, TaskId::BASE, Step::Only),
            Self::LabelsRequested(_) => at(Kind::Requests, TaskId::BASE, Step::Only),

            Self::StatisticsMoved(moved) => at(Kind::Statistics, moved.task, Step::Counted),
            Self::EdgeReport(report) => at(
                Kind::Statistics,
                report.statistics.task.task,
                Step::Reported,
            ),

            Self::AdapterMoved(moved) => at(Kind::Corrections, moved.task, Step::Adapted),
            Self::RecentMoved(moved) => at(Kind::Corrections, moved.task, Step::Kept),
            Self::DriftMoved(moved) => at(Kind::Corrections, moved.task, Step::Watched),
            Self::DriftDetected(drift) => at(Kind::Corrections, drift.task, Step::Drifted),
            Self::CalibrationMoved(_) => at(Kind::Corrections, TaskId::BASE, Step::Calibrated),

            Self::MemoryBounded(_) => at(Kind::Bounds, TaskId::BASE, Step::Only),
            Self::SamplesRetained(retained) => at(Kind::Memory, retained.task, Step::Only),

            Self::FeaturesScaled { .. } => at(Kind::Learning, TaskId::BASE, Step::Measured),
            Self::RelationScored(scored) => at(Kind::Learning, scored.task, Step::Measured),
            Self::ModelRolledBack { model, .. } => at(Kind::Learning, model.task, Step::RolledBack),
            Self::TaskPinned { task, .. } => at(Kind::Learning, *task, Step::Pinned),
            Self::ReferenceDrawn(_) => at(Kind::Learning, TaskId::BASE, Step::Referenced),
            Self::Followed { task, .. } => at(Kind::Learning, *task, Step::Followed),
            Self::ModelDonated(donated) => at(Kind::Learning, donated.task(), Step::Donated),

            Self::StageMoved(moved) => stage(&moved.model, moved.stage, moved.state.into()),
            Self::ModelTrained(trained) => stage(&trained.model, Train, Moment::Result),
            Self::ModelEvaluated(judged) => stage(&judged.model, Evaluate, Moment::Result),
            Self::ModelDeployed { model } => stage(model, Deploy, Moment::Result),
            Self::ModelPromoted { model } => stage(model, Deploy, Moment::FailedOrPromoted),
            Self::ModelRetired { model } => stage(model, Deploy, Moment::Retired),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::mem::discriminant;
    use std::sync::Arc;

    use super::*;
    use crate::algorithms::adapter::Adapter;
    use crate::algorithms::cluster::Clusters;
    use crate::algorithms::drift::{Detector, Detectors, DriftDetected, DriftMoved};
    use crate::algorithms::recognize::{EpochScores, Reference};
    use crate::algorithms::unseen::{
        GroupOutcome, LabelsRequested, Regions, RequestHistory, UnseenGroup, UnseenGrown,
        UnseenSettled,
    };
    use crate::data::{
        Forgotten, MemoryBounded, RecentMoved, RecentSamples, Rise, SamplesRetained, Score,
        SharedStatistics, TaskDefinition, TaskDifference, TaskPath, TaskPseudonym, TopicPartition,
    };
    use crate::flow::{
        AdapterMoved, CalibrationMoved, EdgeReport, ModelDonated, ModelEvaluated, ModelTrained,
        RecordsSkipped, RelationScored, Remodeling, Revision, StageMoved, StatisticsMoved,
    };

    /// The order that replay depends on, in numbers.
    fn numbered(change: &KnowledgeChange) -> (i8, TaskId, u32, u16) {
        let learning = |model: &ModelId, stage: StageKind, step: u16| {
            (4, model.task, model.version, stage as u16 * 100 + step)
        };
        match change {
            KnowledgeChange::RecordsSkipped(_) => (-1, TaskId::BASE, 0, 0),
            KnowledgeChange::ClustersFound(_) => (0, TaskId::BASE, 0, 0),
            KnowledgeChange::Forgotten(_) => (0, TaskId::BASE, 0, 1),
            KnowledgeChange::TaskDefined(definition) => (0, definition.task, 1, 0),
            KnowledgeChange::TaskPseudonym(renamed) => (0, renamed.here.task, 1, 1),
            KnowledgeChange::EdgeReport(reported) => (1, reported.statistics.task.task, 2, 0),
            KnowledgeChange::UnseenSettled(settled) => (0, settled.task.task, 2, 0),
            KnowledgeChange::UnseenGrown(grown) => (0, grown.group.task().task, 3, 0),
            KnowledgeChange::RegionsMoved(_) => (0, TaskId(u64::MAX), 4, 0),
            KnowledgeChange::LabelsRequested(_) => (1, TaskId::BASE, 0, 0),
            KnowledgeChange::StatisticsMoved(moved) => (1, moved.task, 1, 0),
            KnowledgeChange::AdapterMoved(moved) => (2, moved.task, 0, 0),
            KnowledgeChange::RecentMoved(moved) => (2, moved.task, 1, 0),
            KnowledgeChange::DriftMoved(moved) => (2, moved.task, 2, 0),
            KnowledgeChange::DriftDetected(detected) => (2, detected.task, 3, 0),
            KnowledgeChange::CalibrationMoved(_) => (2, TaskId::BASE, 4, 0),
            KnowledgeChange::ReferenceDrawn(_) => (4, TaskId::BASE, 0, 3),
            KnowledgeChange::FeaturesScaled { .. } => (4, TaskId::BASE, 0, 0),
            KnowledgeChange::MemoryBounded(_) => (3, TaskId::BASE, 0, 0),
            KnowledgeChange::SamplesRetained(retained) => (3, retained.task, 0, 1),
            KnowledgeChange::StageMoved(moved) => {
                learning(&moved.model, moved.stage, moved.state as u16 * 10)
            }
            KnowledgeChange::RelationScored(scored) => (4, scored.task, 0, 0),
            KnowledgeChange::ModelTrained(trained) => {
                learning(&trained.model, StageKind::Train, 35)
            }
            KnowledgeChange::ModelEvaluated(evaluated) => {
                learning(&evaluated.model, StageKind::Evaluate, 35)
            }
            KnowledgeChange::ModelRolledBack { model, .. } => (4, model.task, 0, 1),
            KnowledgeChange::TaskPinned { task, .. } => (4, *task, 0, 2),
            KnowledgeChange::Followed { task, .. } => (4, *task, 0, 4),
            KnowledgeChange::ModelDonated(donated) => (4, donated.task(), 0, 5),
            KnowledgeChange::ModelDeployed { model } => learning(model, StageKind::Deploy, 35),
            KnowledgeChange::ModelPromoted { model } => learning(model, StageKind::Deploy, 50),
            KnowledgeChange::ModelRetired { model } => learning(model, StageKind::Deploy, 60),
        }
    }

    fn trained(model: ModelId) -> ModelTrained {
        ModelTrained {
            model,
            hash: String::new(),
            bytes: 0,
            samples: 0,
            latest: 0,
            remodeling: Remodeling::Scratch,
        }
    }

    fn evaluated(model: ModelId) -> ModelEvaluated {
        ModelEvaluated {
            model,
            incumbent: None,
            samples: 0,
            effective_samples: 0.0,
            accuracy: None,
            log_loss: 0.0,
            rmse: None,
            incumbent_accuracy: None,
            incumbent_log_loss: None,
            incumbent_rmse: None,
            scale: None,
        }
    }

    /// One change of each variant that is not about a task or a model.
    fn of_the_base() -> Vec<KnowledgeChange> {
        vec![
            KnowledgeChange::ClustersFound(Arc::new(Clusters {
                features: Vec::new(),
                clusters: Vec::new(),
                silhouette: None,
            })),
            KnowledgeChange::RecordsSkipped(RecordsSkipped {
                place: TopicPartition {
                    topic: Arc::from("samples"),
                    partition: 0,
                },
                from: 0,
                to: 1,
                is_remade: false,
            }),
            KnowledgeChange::RegionsMoved(Regions::default()),
            KnowledgeChange::Forgotten(Forgotten::default()),
            KnowledgeChange::LabelsRequested(LabelsRequested {
                requests: Vec::new(),
                asked: RequestHistory::default(),
            }),
            KnowledgeChange::CalibrationMoved(CalibrationMoved {
                scores: EpochScores::default(),
                left: Vec::new(),
            }),
            KnowledgeChange::ReferenceDrawn(Arc::new(Reference::default())),
            KnowledgeChange::FeaturesScaled {
                deviations: Vec::new(),
            },
            KnowledgeChange::MemoryBounded(MemoryBounded {
                samples_per_task: 0,
                bytes: 0,
                sample_bytes: 0,
            }),
        ]
    }

    /// One change of each variant that is about a task.
    fn of_a_task(task: TaskId) -> Vec<KnowledgeChange> {
        let definition = TaskDefinition {
            task,
            ..TaskDefinition::base()
        };
        let path = vec![definition.clone()];
        vec![
            KnowledgeChange::TaskDefined(definition.clone()),
            KnowledgeChange::TaskPseudonym(TaskPseudonym {
                here: definition.clone(),
                elsewhere: TaskDefinition::base(),
                naming: 0,
            }),
            KnowledgeChange::UnseenSettled(UnseenSettled {
                task: definition.clone(),
                first: 0,
                samples: 0,
                labelled: 0,
                became: GroupOutcome::Task,
            }),
            KnowledgeChange::UnseenGrown(UnseenGrown {
                group: UnseenGroup {
                    path: TaskPath {
                        nodes: path.clone(),
                    },
                    first: 0,
                    samples: 0,
                    error: 0,
                    labelled: 0,
                    tried: 0,
                    trying: false,
                },
                labelled: Vec::new(),
            }),
            KnowledgeChange::StatisticsMoved(StatisticsMoved {
                task,
                difference: Box::new(TaskDifference::default()),
                left: Vec::new(),
            }),
            KnowledgeChange::EdgeReport(EdgeReport {
                edge: Arc::from("edge"),
                statistics: SharedStatistics {
                    task: definition,
                    labelled: 0,
                    score: Score::default(),
                },
            }),
            KnowledgeChange::AdapterMoved(AdapterMoved {
                task,
                adapter: Arc::new(Adapter::default()),
            }),
            KnowledgeChange::RecentMoved(RecentMoved {
                task,
                parent: None,
                samples: Arc::new(RecentSamples::default()),
                left: Vec::new(),
            }),
            KnowledgeChange::DriftMoved(DriftMoved {
                task,
                detectors: Arc::new(Detectors::default()),
            }),
            KnowledgeChange::DriftDetected(DriftDetected {
                task,
                detector: Detector::Adwin,
                rise: Rise {
                    before: 0.0,
                    after: 1.0,
                    samples: 1,
                },
                labelled: 1,
            }),
            KnowledgeChange::SamplesRetained(SamplesRetained {
                task,
                samples: Vec::new(),
                dropped: Vec::new(),
                classes: Vec::new(),
            }),
            KnowledgeChange::RelationScored(RelationScored {
                model: ModelId { task, version: 1 },
                task,
                samples: 0,
                accuracy: None,
                log_loss: 0.0,
                rmse: None,
            }),
            KnowledgeChange::TaskPinned { task, pinned: true },
            KnowledgeChange::Followed {
                task,
                donor: None,
                revision: Revision::default(),
            },
            KnowledgeChange::ModelDonated(Box::new(ModelDonated {
                donor: Arc::from("edge"),
                path,
                trained: trained(ModelId { task, version: 1 }),
                evaluated: None,
            })),
            // Version 0 retires whichever version is deployed.
            KnowledgeChange::ModelRetired {
                model: ModelId { task, version: 0 },
            },
        ]
    }

    /// The changes of each variant that is about a model, one for each state of each stage.
    fn of_a_model(model: ModelId) -> Vec<KnowledgeChange> {
        let mut changes = vec![
            KnowledgeChange::ModelTrained(trained(model)),
            KnowledgeChange::ModelEvaluated(evaluated(model)),
            KnowledgeChange::ModelDeployed { model },
            KnowledgeChange::ModelRetired { model },
            KnowledgeChange::ModelRolledBack { model, to: None },
            KnowledgeChange::ModelPromoted { model },
        ];
        for stage in [StageKind::Train, StageKind::Evaluate, StageKind::Deploy] {
            for state in [
                StageState::Waiting,
                StageState::Ready,
                StageState::Starting,
                StageState::Running,
                StageState::Completed,
                StageState::Failed,
            ] {
                changes.push(KnowledgeChange::StageMoved(StageMoved {
                    model,
                    stage,
                    state,
                    labelled: 0,
                    clock: 0,
                    initial: false,
                    recent: None,
                    detail: String::new(),
                }));
            }
        }
        changes
    }

    #[test]
    fn every_pair_of_changes_keeps_its_order() {
        let mut changes = of_the_base();
        for task in [TaskId::BASE, TaskId(7), TaskId(8), TaskId(u64::MAX)] {
            changes.extend(of_a_task(task));
            for version in [1, 2] {
                changes.extend(of_a_model(ModelId { task, version }));
            }
        }
        let variants: HashSet<_> = changes.iter().map(discriminant).collect();
        assert_eq!(variants.len(), 30, "the sample has every variant");
        for one in &changes {
            for other in &changes {
                assert_eq!(
                    one.order().cmp(&other.order()),
                    numbered(one).cmp(&numbered(other)),
                    "{one:?} and {other:?}"
                );
            }
        }
    }
}
