//! Knowledge changes: the facts whose sum is the knowledge base.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::model::{ModelDonated, ModelEvaluated, ModelTrained, RelationScored, Revision};
use super::stage::{StageKind, StageMoved};
use crate::algorithms::adapter::Adapter;
use crate::algorithms::cluster::Clusters;
use crate::algorithms::drift::{DriftDetected, DriftMoved};
use crate::algorithms::recognize::{EpochScores, Reference};
use crate::algorithms::unseen::{LabelsRequested, Regions, UnseenGrown, UnseenSettled};
use crate::data::{
    Epoch, MemoryBounded, ModelId, RecentMoved, SamplesRetained, SharedStatistics, TaskDefinition,
    TaskDifference, TaskId, TaskPseudonym,
};

/// One fact added to the knowledge base.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KnowledgeChange {
    /// A task was seen for the first time.
    TaskDefined(TaskDefinition),
    /// Samples or labels of an unseen task came in, or it is being tried.
    UnseenGrown(UnseenGrown),
    /// What an unseen task is was found.
    UnseenSettled(UnseenSettled),
    /// Samples came that look like none of known tasks, or it was found what their tasks are.
    RegionsMoved(Regions),
    /// Labels of some samples are asked for.
    LabelsRequested(LabelsRequested),
    /// Labels came in for a task, and perhaps older ones left its window.
    StatisticsMoved(StatisticsMoved),
    /// A task's adapter learned from labels.
    AdapterMoved(AdapterMoved),
    /// Labelled samples came in for a finest task, and perhaps older ones are no longer among its recent ones.
    RecentMoved(RecentMoved),
    /// Predictions of a task came to be judged, as they are watched for drift.
    DriftMoved(DriftMoved),
    /// The predictions of a task lose more than they used to.
    DriftDetected(DriftDetected),
    /// Samples of known tasks were scored as those of unseen ones would be.
    CalibrationMoved(CalibrationMoved),
    /// What samples of known tasks look like from then on.
    ReferenceDrawn(Arc<Reference>),
    /// How much each feature varies over the samples of the bootstrap: its standard deviation, 0 where none is known.
    FeaturesScaled {
        /// By feature.
        deviations: Vec<f32>,
    },
    /// How much may be retained from now on.
    MemoryBounded(MemoryBounded),
    /// Labels came in for a finest task, of which some samples were retained, and perhaps earlier ones dropped.
    SamplesRetained(SamplesRetained),
    /// A stage of a task's learning went from one state to the next.
    StageMoved(StageMoved),
    /// A model was trained and stored.
    ModelTrained(ModelTrained),
    /// How well the model of one task does on the samples of another.
    RelationScored(RelationScored),
    /// A model was judged on held-back samples of its task.
    ModelEvaluated(ModelEvaluated),
    /// A model answers from the next epoch on.
    ModelDeployed {
        /// Which model.
        model: ModelId,
    },
    /// A model no longer answers from the next epoch on: its task inherits again. It changes nothing if another has replaced it
    /// meanwhile.
    ModelRetired {
        /// Which model; with version 0, whichever answers.
        model: ModelId,
    },
    /// A model did worse than the one that it had replaced, which answers again from the next epoch on; or somebody
    /// has said so. It changes nothing if another has replaced it meanwhile.
    ModelRolledBack {
        /// The model that answers no longer.
        model: ModelId,
        /// The version that answers again; none if its task inherits again.
        to: Option<u32>,
    },
    /// A model that answered for some edges first has done well, and answers for all.
    ModelPromoted {
        /// Which model.
        model: ModelId,
    },
    /// Whether the model of a task is to stay, whatever is learned.
    TaskPinned {
        /// Which task.
        task: TaskId,
        /// Whether it is.
        pinned: bool,
    },
    /// What the cloud knows of a task was taken in.
    Followed {
        /// Which task.
        task: TaskId,
        /// The edge that has donated it, if it is a model of one.
        donor: Option<Arc<str>>,
        /// Which revision of it.
        revision: Revision,
    },
    /// Clusters of features were found in the bootstrap: tasks are made of them from then on.
    ClustersFound(Arc<Clusters>),
    /// A task has another name where its samples are shared.
    TaskPseudonym(TaskPseudonym),
    /// How an edge did was taken in.
    EdgeReport(EdgeReport),
    /// A model that was trained elsewhere was taken in, for trainings here to start from.
    ModelDonated(Box<ModelDonated>),
}

impl KnowledgeChange {
    /// The place of the change among those of its epoch, the same whatever the number of workers:
    /// clusters are found, tasks are defined and unseen ones grow, then statistics move, then adapters, recent samples and detectors, then samples are
    /// retained and dropped, then each model goes through its stages.
    pub fn place(&self) -> impl Ord + use<> {
        let learning = |model: &ModelId, stage: StageKind, step: u16| {
            (4, model.task, model.version, stage as u16 * 100 + step)
        };
        match self {
            KnowledgeChange::ClustersFound(_) => (0, TaskId::BASE, 0, 0),
            KnowledgeChange::TaskDefined(definition) => (0, definition.task, 1, 0),
            KnowledgeChange::TaskPseudonym(renamed) => (0, renamed.here.task, 1, 1),
            KnowledgeChange::EdgeReport(reported) => (1, reported.statistics.task.task, 2, 0),
            KnowledgeChange::UnseenSettled(settled) => (0, settled.task.task, 2, 0),
            // One that made room can come again in the same epoch.
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
            // A task is in one training at a time.
            KnowledgeChange::RelationScored(scored) => (4, scored.task, 0, 0),
            // What a stage yields comes after it ran and before it is completed.
            KnowledgeChange::ModelTrained(trained) => {
                learning(&trained.model, StageKind::Train, 35)
            }
            KnowledgeChange::ModelEvaluated(evaluated) => {
                learning(&evaluated.model, StageKind::Evaluate, 35)
            }
            // What answers again is what the training is measured against.
            KnowledgeChange::ModelRolledBack { model, .. } => (4, model.task, 0, 1),
            KnowledgeChange::TaskPinned { task, .. } => (4, *task, 0, 2),
            KnowledgeChange::Followed { task, .. } => (4, *task, 0, 4),
            KnowledgeChange::ModelDonated(donated) => (4, donated.task(), 0, 5),
            KnowledgeChange::ModelDeployed { model } => learning(model, StageKind::Deploy, 35),
            KnowledgeChange::ModelPromoted { model } => learning(model, StageKind::Deploy, 50),
            KnowledgeChange::ModelRetired { model } => learning(model, StageKind::Deploy, 60),
        }
    }
}

/// See [`KnowledgeChange::EdgeReport`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EdgeReport {
    /// The edge.
    pub edge: Arc<str>,
    /// How it did at a task.
    pub statistics: SharedStatistics,
}

/// See [`KnowledgeChange::StatisticsMoved`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatisticsMoved {
    /// The task.
    pub task: TaskId,
    /// What came in.
    pub difference: Box<TaskDifference>,
    /// The epochs whose scores left the task's window.
    pub left: Vec<Epoch>,
}

/// See [`KnowledgeChange::AdapterMoved`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdapterMoved {
    /// The task.
    pub task: TaskId,
    /// Its adapter from the next epoch on.
    pub adapter: Arc<Adapter>,
}

/// See [`KnowledgeChange::CalibrationMoved`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CalibrationMoved {
    /// What came in.
    pub scores: EpochScores,
    /// The epochs whose scores no longer count.
    pub left: Vec<Epoch>,
}
