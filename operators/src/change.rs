//! Knowledge changes: the only way the knowledge base is ever altered.
//!
//! The knowledge base is the sum of its changes. The same enum is its audit log and what sites and
//! the cloud say to each other.

use serde::{Deserialize, Serialize};

use std::sync::Arc;

use crate::cluster::Clusters;
use crate::drift::{Detector, Detectors, Rise};
use crate::recognize::calibration::EpochScores;
use crate::recognize::reference::Reference;
use crate::share::{Renamed, SharedStatistics};
use crate::unseen::region::Regions;
use crate::unseen::{LabelsRequested, UnseenGrown, UnseenSettled};
use crate::{Adapter, Epoch, ModelId, TaskDefinition, TaskDifference, TaskId};

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
    Renamed(Renamed),
    /// How an edge did was taken in.
    Reported(Reported),
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
            KnowledgeChange::Renamed(renamed) => (0, renamed.here.task, 1, 1),
            KnowledgeChange::Reported(reported) => (1, reported.statistics.task.task, 2, 0),
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

/// Which of the things that were published of a task is meant: later ones are greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Revision {
    /// When the knowledge base of who published it was made, microseconds since 1970 by its clock: one that is made anew counts
    /// anew.
    pub since: i64,
    /// Grows with each.
    pub number: u64,
}

/// See [`KnowledgeChange::ModelDonated`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelDonated {
    /// Who has trained it: an edge by its name, or the cloud.
    pub donor: Arc<str>,
    /// The tasks above the model's, the base task first, and that one last.
    pub path: Vec<TaskDefinition>,
    /// How it was made.
    pub trained: ModelTrained,
    /// How it was judged there.
    pub evaluated: Option<ModelEvaluated>,
}

impl ModelDonated {
    /// The task whose samples it was trained on.
    pub fn task(&self) -> TaskId {
        self.path.last().map_or(TaskId::BASE, |task| task.task)
    }
}

/// See [`KnowledgeChange::Reported`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reported {
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

/// See [`KnowledgeChange::DriftMoved`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DriftMoved {
    /// The task.
    pub task: TaskId,
    /// What watches it, from the next epoch on.
    pub detectors: Arc<Detectors>,
}

/// See [`KnowledgeChange::CalibrationMoved`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CalibrationMoved {
    /// What came in.
    pub scores: EpochScores,
    /// The epochs whose scores no longer count.
    pub left: Vec<Epoch>,
}

/// See [`KnowledgeChange::DriftDetected`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DriftDetected {
    /// The task.
    pub task: TaskId,
    /// Who tells.
    pub detector: Detector,
    /// By how much predictions lose more than they used to.
    pub rise: Rise,
    /// The task's labelled samples then.
    pub labelled: i64,
}

/// See [`KnowledgeChange::RecentMoved`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecentMoved {
    /// The task.
    pub task: TaskId,
    /// The task above it.
    pub parent: Option<TaskId>,
    /// What came in, the latest of it.
    pub samples: Arc<RecentSamples>,
    /// The epochs whose samples are no longer among the recent ones.
    pub left: Vec<Epoch>,
}

/// Labelled samples of a task in the order of the stream.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RecentSamples {
    /// Their sequence numbers.
    pub sequences: Vec<u64>,
    /// Their event times, microseconds since 1970.
    pub times: Vec<i64>,
    /// Their class numbers, or numbers.
    pub labels: Vec<f32>,
    /// Their feature values, sample by sample; NaN = missing.
    pub features: Vec<f32>,
}

impl RecentSamples {
    /// Number of features.
    pub fn width(&self) -> usize {
        self.features.len() / self.labels.len().max(1)
    }

    /// Each sample on its own.
    pub fn each(&self) -> impl Iterator<Item = RetainedSample> {
        let features = self.features.chunks_exact(self.width().max(1));
        let rows = self.sequences.iter().zip(&self.times).zip(&self.labels);
        rows.zip(features)
            .map(|(((sequence, time), label), features)| RetainedSample {
                sequence: *sequence,
                time: *time,
                label: *label,
                features: features.to_vec(),
                weight: RetainedSample::alone(),
            })
    }

    /// Adds later samples.
    pub fn append(&mut self, later: RecentSamples) {
        self.sequences.extend(later.sequences);
        self.times.extend(later.times);
        self.labels.extend(later.labels);
        self.features.extend(later.features);
    }

    /// Drops all but the latest.
    pub fn keep_latest(&mut self, most: usize) {
        let (width, over) = (self.width(), self.labels.len().saturating_sub(most));
        self.sequences.drain(..over);
        self.times.drain(..over);
        self.labels.drain(..over);
        self.features.drain(..over * width);
    }
}

/// See [`KnowledgeChange::MemoryBounded`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryBounded {
    /// The most samples of a finest task.
    pub samples_per_task: u64,
    /// The most bytes of all samples.
    pub bytes: u64,
    /// What a sample counts, in bytes.
    pub sample_bytes: u64,
}

/// See [`KnowledgeChange::SamplesRetained`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SamplesRetained {
    /// The finest task of the samples.
    pub task: TaskId,
    /// Those that came in, by sequence number.
    pub samples: Vec<RetainedSample>,
    /// The sequence numbers of those that left.
    pub dropped: Vec<u64>,
    /// How it then stands, class by class.
    pub classes: Vec<ClassRetained>,
}

/// How the retained samples of one class of a task stand to all there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassRetained {
    /// Labelled samples that there were.
    pub seen: u64,
    /// Of those, the ones up to this [priority](crate::retain::priority) are retained; none if all are.
    pub limit: Option<u64>,
}

/// A labelled sample that is kept for training and judging.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RetainedSample {
    /// Its sequence number in the stream.
    pub sequence: u64,
    /// Its event time, microseconds since 1970.
    pub time: i64,
    /// Its class number, or its number.
    pub label: f32,
    /// Its feature values, NaN = missing.
    pub features: Vec<f32>,
    /// How many samples of its task and class it stands for. It is not stored: it is known when all of them are read.
    #[serde(skip, default = "RetainedSample::alone")]
    pub weight: f32,
}

impl RetainedSample {
    /// What a sample counts where their bytes are bounded: never less than it takes, its key included.
    pub fn bytes(features: usize) -> u64 {
        48 + 4 * features as u64
    }

    /// The weight of a sample that stands for itself.
    fn alone() -> f32 {
        1.0
    }
}

/// The stages of learning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StageKind {
    /// A model is fitted.
    Train,
    /// It is judged against the model that answers now.
    Evaluate,
    /// It takes over.
    Deploy,
}

/// The states of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StageState {
    /// Its trigger has fired; it waits for its turn.
    Waiting,
    /// What it works on is committed and can be read.
    Ready,
    /// Its samples are being gathered.
    Starting,
    /// It works.
    Running,
    /// It is done.
    Completed,
    /// It could not be done; the reason is with it.
    Failed,
}

impl StageState {
    /// Whether the stage is over.
    pub fn ended(self) -> bool {
        matches!(self, StageState::Completed | StageState::Failed)
    }
}

/// See [`KnowledgeChange::StageMoved`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageMoved {
    /// The model that the stage is about.
    pub model: ModelId,
    /// Which stage.
    pub stage: StageKind,
    /// The state that it is in now.
    pub state: StageState,
    /// Labelled samples of the task when its trigger fired.
    pub labelled: i64,
    /// The stream's clock when its trigger fired, microseconds since 1970.
    pub clock: i64,
    /// Whether the stage belongs to the initial training.
    pub initial: bool,
    /// Where drift gave the order, how many labels of the task had come since.
    pub recent: Option<u64>,
    /// Why: the trigger's condition, what was decided, what failed.
    pub detail: String,
}

/// See [`KnowledgeChange::ModelTrained`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelTrained {
    /// Which model.
    pub model: ModelId,
    /// BLAKE3 hash of its ONNX bytes, in hexadecimal; the bytes are stored under it.
    pub hash: String,
    /// Size of the ONNX bytes.
    pub bytes: u64,
    /// Samples that it was fitted on.
    pub samples: u64,
    /// The sequence number of the latest sample that was known of its task: what comes after is new to it.
    pub latest: u64,
    /// How it was built from its relatives.
    pub remodeling: Remodeling,
}

/// How a model is built from its relatives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Remodeling {
    /// From its task's samples alone.
    Scratch,
    /// Its trees correct another model.
    WarmStart {
        /// The model that it starts from.
        from: ModelId,
    },
    /// From the samples of a relative as well.
    Pooled {
        /// The relative.
        with: TaskId,
    },
    /// From its task's samples since its losses rose.
    Recent,
    /// It is an earlier model of its task.
    Recalled {
        /// Which.
        version: u32,
    },
    /// It is a model that was trained elsewhere, as it is.
    Adopted {
        /// Which, by the numbers there.
        model: ModelId,
    },
}

/// See [`KnowledgeChange::RelationScored`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RelationScored {
    /// The model of the other task.
    pub model: ModelId,
    /// The task whose samples it was asked about.
    pub task: TaskId,
    /// How many, the latest of those that the task's own models are fitted on.
    pub samples: u64,
    /// Its share of right predictions, where the label has classes.
    pub accuracy: Option<f64>,
    /// Its mean loss, nats.
    pub log_loss: f64,
    /// The root of its mean squared error, where the label is a number.
    pub rmse: Option<f64>,
}

/// See [`KnowledgeChange::ModelEvaluated`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelEvaluated {
    /// The candidate.
    pub model: ModelId,
    /// The model that it was judged against: what answers without it, if anything does.
    pub incumbent: Option<ModelId>,
    /// Samples that both were judged on, none of which the candidate was fitted on.
    pub samples: u64,
    /// How many that all count the same would tell as much; 0 where there was nothing to compare with.
    pub effective_samples: f64,
    /// The candidate's share of right predictions on them, where the label has classes.
    pub accuracy: Option<f64>,
    /// The candidate's mean loss on them, nats.
    pub log_loss: f64,
    /// The root of the candidate's mean squared error on them, where the label is a number.
    pub rmse: Option<f64>,
    /// The incumbent's accuracy on them.
    pub incumbent_accuracy: Option<f64>,
    /// The incumbent's mean loss on them.
    pub incumbent_log_loss: Option<f64>,
    /// The incumbent's root of the mean squared error.
    pub incumbent_rmse: Option<f64>,
    /// Where the label is a number, the size of a usual error, by which losses are counted in nats: that of the base
    /// task's first model, for all models.
    pub scale: Option<f32>,
}

impl ModelEvaluated {
    /// By how many nats the candidate was better, over all samples; 0 where there was nothing to compare with.
    pub fn evidence(&self) -> f32 {
        let gain = self
            .incumbent_log_loss
            .map_or(0.0, |before| before - self.log_loss);
        (gain * self.effective_samples) as f32
    }
}
