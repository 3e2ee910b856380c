//! Knowledge changes: the facts whose sum is the knowledge base.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::intake::RecordsSkipped;
use super::model::{ModelDonated, ModelEvaluated, ModelTrained, RelationScored, Revision};
use super::stage::StageMoved;
use crate::algorithms::adapter::Adapter;
use crate::algorithms::cluster::Clusters;
use crate::algorithms::drift::{DriftDetected, DriftMoved};
use crate::algorithms::recognize::{EpochScores, Reference};
use crate::algorithms::unseen::{LabelsRequested, Regions, UnseenGrown, UnseenSettled};
use crate::data::{
    Epoch, Forgotten, MemoryBounded, ModelId, RecentMoved, SamplesRetained, SharedStatistics,
    TaskDefinition, TaskDifference, TaskId, TaskPseudonym,
};

/// One fact added to the knowledge base.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KnowledgeChange {
    /// A task was seen for the first time.
    TaskDefined(TaskDefinition),
    /// An unseen task gained samples or labels, or its trial began.
    UnseenGrown(UnseenGrown),
    /// It was decided what an unseen task is.
    UnseenSettled(UnseenSettled),
    /// Outliers came in, or regions of them were found, assigned to a task or dissolved.
    RegionsMoved(Regions),
    /// Labels of some samples were requested.
    LabelsRequested(LabelsRequested),
    /// Labels of a task came in, or older ones left its window.
    StatisticsMoved(StatisticsMoved),
    /// A task's adapter learned from labels.
    AdapterMoved(AdapterMoved),
    /// Labelled samples of a finest task came in, or older ones ceased to be recent.
    RecentMoved(RecentMoved),
    /// A task's drift detectors took in new losses.
    DriftMoved(DriftMoved),
    /// A task's predictions have begun to lose more than before.
    DriftDetected(DriftDetected),
    /// Novelty scores of samples of known tasks came in, or older ones ceased to count.
    CalibrationMoved(CalibrationMoved),
    /// The samples of known tasks were summed up anew, for recognition to compare samples with.
    ReferenceDrawn(Arc<Reference>),
    /// The features' standard deviations over the bootstrap were measured.
    FeaturesScaled {
        /// One standard deviation a feature; 0 where it is unknown.
        deviations: Vec<f32>,
    },
    /// The bounds on retained samples were set.
    MemoryBounded(MemoryBounded),
    /// Labelled samples of a finest task came in; some were retained, and earlier ones dropped.
    SamplesRetained(SamplesRetained),
    /// A stage of a task's learning went from one state to the next.
    StageMoved(StageMoved),
    /// A model was trained and stored.
    ModelTrained(ModelTrained),
    /// The model of one task was evaluated on the samples of another.
    RelationScored(RelationScored),
    /// A candidate was evaluated on held-back samples of its task.
    ModelEvaluated(ModelEvaluated),
    /// A model was deployed; it predicts from the next epoch on.
    ModelDeployed {
        /// The model.
        model: ModelId,
    },
    /// A model was retired: from the next epoch on, its task inherits. Without effect on a task
    /// whose deployed model is another one by then.
    ModelRetired {
        /// The model; with version 0, whichever is deployed.
        model: ModelId,
    },
    /// A model was rolled back, because it did worse than its predecessor or on request; from the
    /// next epoch on, the predecessor predicts again. Without effect on a task whose deployed model
    /// is another one by then.
    ModelRolledBack {
        /// The model that is replaced.
        model: ModelId,
        /// The version that is restored; none if the task inherits again.
        to: Option<u32>,
    },
    /// A model did well at the edges that tried it first, and is deployed at all of them.
    ModelPromoted {
        /// The model.
        model: ModelId,
    },
    /// The deployed model of a task was pinned, so that nothing learned replaces it, or unpinned.
    TaskPinned {
        /// The task.
        task: TaskId,
        /// Whether it is pinned from now on.
        pinned: bool,
    },
    /// An update of a task that was published elsewhere was taken in.
    Followed {
        /// The task.
        task: TaskId,
        /// The edge that donated the model, for the update of a donated model.
        donor: Option<Arc<str>>,
        /// The revision that was taken in.
        revision: Revision,
    },
    /// Clusters of features were found in the bootstrap; a level of the task tree is made of them.
    ClustersFound(Arc<Clusters>),
    /// A task got the name under which its samples are shared.
    #[serde(rename = "renamed")]
    TaskPseudonym(TaskPseudonym),
    /// An edge's statistics of a task were taken in.
    #[serde(rename = "reported")]
    EdgeReport(EdgeReport),
    /// A model that was trained elsewhere was taken in, as a donor for trainings here.
    ModelDonated(Box<ModelDonated>),
    /// Tasks were forgotten on request, with all changes that named them or had their samples.
    Forgotten(Forgotten),
    /// Records of a topic were deleted before they were read, and reading resumed without them.
    RecordsSkipped(RecordsSkipped),
}

/// Statistics of an edge at one task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EdgeReport {
    /// Name of the edge.
    pub edge: Arc<str>,
    /// Its statistics.
    pub statistics: SharedStatistics,
}

/// Labels that a task gained in an epoch, and those that left its window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatisticsMoved {
    /// The task.
    pub task: TaskId,
    /// The sum over the labels that came in.
    pub difference: Box<TaskDifference>,
    /// Epochs whose scores left the task's window.
    pub left: Vec<Epoch>,
}

/// State of a task's adapter after an epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdapterMoved {
    /// The task.
    pub task: TaskId,
    /// Its adapter from the next epoch on.
    pub adapter: Arc<Adapter>,
}

/// Novelty scores that the calibration gained in an epoch, and those that left it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CalibrationMoved {
    /// Scores that came in.
    pub scores: EpochScores,
    /// Epochs whose scores no longer count.
    pub left: Vec<Epoch>,
}
