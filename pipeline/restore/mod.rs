//! First state of the dataflow, read from the knowledge base and cut by worker and stage.
//!
//! [`Restored`] is what the knowledge base has. Each file turns a part of it into the first state
//! of one stage, as the worker of a [`Shard`] needs it; `input` does the same for the readers.

mod ingest;
mod input;
mod label;
mod learn;
mod predict;
mod train;
mod unseen;

use std::collections::BTreeMap;
use std::sync::Arc;

use perennial_connectors::knowledge_base::{Progress, Retained, View};
use perennial_connectors::source::edges::DonatedModels;
use perennial_operators::algorithms::cluster::Clusters;
use perennial_operators::algorithms::drift::Detectors;
use perennial_operators::algorithms::pool::Adapters;
use perennial_operators::algorithms::recognize::{EpochScores, Reference};
use perennial_operators::algorithms::unseen::{Entry, Regions, RequestHistory};
use perennial_operators::flow::{
    DeployedModel, EarlyLabel, EdgeHistory, EdgeProgress, MessageOffset, Phase, Revision,
    TrainOrder,
};
use perennial_operators::learn::{RestoredStatistics, TaskTraining};
use perennial_operators::{
    Epoch, Failure, MemoryBounded, RecentMoved, TaskDefinition, TaskId, TaskPseudonym,
};

pub use self::ingest::IngestStart;
use self::input::donated;
pub use self::label::LabelStart;
pub use self::learn::LearnStart;
use self::learn::{recents, statistics};
pub use self::predict::PredictStart;
use self::predict::{deployed, spare};
pub use self::train::TrainStart;
use self::train::{training, unfinished};
pub use self::unseen::UnseenStart;
use crate::config::Settings;
use crate::error::Error;

/// The knowledge base as the dataflow starts from it.
#[derive(Clone)]
pub struct Restored {
    /// Progress of the stream.
    pub progress: Progress,
    /// Ids of the topics that the progress is of, by name.
    topics: BTreeMap<Arc<str>, String>,
    /// Clusters of features, once they are found.
    pub clusters: Option<Arc<Clusters>>,
    /// Definitions of all tasks.
    tasks: Vec<TaskDefinition>,
    /// Tasks that turned out to be another one, with the definition of that one.
    aliases: BTreeMap<TaskId, TaskDefinition>,
    /// Tasks whose names are pseudonyms where samples are shared.
    renamed: Vec<TaskPseudonym>,

    /// Deployed models, the frozen baseline first.
    deployed: Vec<DeployedModel>,
    /// The model of the base task before its deployed one.
    spare: Option<DeployedModel>,
    /// Adapters of all tasks.
    adapters: Adapters,
    /// Latest labelled samples of finest tasks, oldest first.
    recents: Vec<(Epoch, RecentMoved)>,
    /// Standard deviation of each feature, once the initial training has measured it.
    deviations: Option<Vec<f32>>,

    /// Ids of the latest good samples, oldest first, each with the number of its record.
    seen: Vec<(u64, u64)>,
    /// Predicted samples that wait for their labels, serialized, oldest first.
    pending: Vec<Vec<u8>>,
    /// Samples of `pending` that no longer wait, since their labels have come, serialized.
    released: Vec<Vec<u8>>,
    /// Sequence numbers of pending samples whose labels are requested.
    requested: Vec<u64>,
    /// Labels that came before their samples.
    early_labels: Vec<EarlyLabel>,

    /// Groups of unseen samples, with their samples.
    unseen: Vec<Entry>,
    /// Regions of features that no known task covers.
    regions: Regions,
    /// Label requests so far, which count against the budget.
    asked: RequestHistory,
    /// Novelty scores of samples of known tasks, by epoch.
    calibration: BTreeMap<Epoch, EpochScores>,
    /// Features of samples of known tasks, as a reference for novelty.
    reference: Option<Arc<Reference>>,

    /// Statistics of all tasks.
    statistics: Vec<RestoredStatistics>,
    /// Drift detectors of tasks.
    detectors: BTreeMap<TaskId, Arc<Detectors>>,
    /// Bounds on retained samples, as last committed.
    bounded: Option<MemoryBounded>,
    /// Retained samples of tasks.
    retained: BTreeMap<TaskId, Retained>,

    /// Orders whose trainings have not ended.
    orders: Vec<TrainOrder>,
    /// Trainings of each task so far.
    training: Vec<(TaskId, TaskTraining)>,
    /// Latest revision of each published task that was taken in, by task and donor; donor 0 is the
    /// cloud.
    followed: BTreeMap<(TaskId, u64), Revision>,
    /// How far the changes of each edge were taken in.
    edges: BTreeMap<String, EdgeProgress>,
    /// Models that each edge has donated.
    donated: BTreeMap<String, DonatedModels>,
    /// History of each edge.
    histories: BTreeMap<String, EdgeHistory>,
    /// Refused messages of edges that are not to be read again.
    refused: Vec<MessageOffset>,
}

/// The tasks that one of several workers keeps.
#[derive(Clone, Copy)]
pub struct Shard {
    /// Index of the worker.
    pub worker: usize,
    /// Number of all workers.
    pub workers: usize,
}

impl Shard {
    /// Whether a task belongs to the worker: the same rule by which streams are exchanged by task.
    fn has(self, task: TaskId) -> bool {
        task.0 % self.workers as u64 == self.worker as u64
    }
}

/// First state of a worker's dataflow, stage by stage.
pub struct Start {
    /// First state of the stage ingest.
    pub ingest: IngestStart,
    /// First state of the stage predict.
    pub predict: PredictStart,
    /// First state of the stage label.
    pub label: LabelStart,
    /// First state of the stage unseen, if unseen samples are recognized.
    pub unseen: Option<UnseenStart>,
    /// First state of the stage learn.
    pub learn: LearnStart,
    /// First state of the stage train.
    pub train: TrainStart,
}

impl Restored {
    /// Reads the state from a view. `keep_frozen` loads the first base model too, `with_recents`
    /// the recent samples.
    pub fn read(view: &View<'_>, keep_frozen: bool, with_recents: bool) -> Result<Self, Error> {
        let tasks = view.tasks()?;
        let stages = view.stages()?;
        let orders = unfinished(&stages);
        let detectors = view.detectors()?;
        Ok(Restored {
            progress: view.progress()?,
            topics: view.topics()?,
            refused: view.refused()?,
            clusters: view.clusters()?,
            deployed: deployed(view, &tasks, keep_frozen)?,
            spare: spare(view, &tasks)?,
            seen: view.seen()?,
            pending: view.pending()?,
            released: view.released()?,
            adapters: view.adapters()?.into_iter().collect(),
            recents: if with_recents {
                recents(view, &tasks)?
            } else {
                Vec::new()
            },
            deviations: view.deviations()?,
            early_labels: view.early_labels()?,
            statistics: statistics(view)?,
            bounded: view.memory()?,
            retained: view.retained()?,
            training: training(&tasks, &orders, &detectors),
            detectors,
            calibration: view.calibration()?,
            reference: view.reference()?,
            unseen: view.unseen()?,
            aliases: view.aliases()?,
            requested: view.requests()?.into_keys().collect(),
            asked: view.asked()?,
            regions: view.regions()?,
            followed: view.revisions()?,
            renamed: view.pseudonyms()?.into_values().collect(),
            edges: view.edges()?,
            histories: view.histories()?,
            donated: donated(view)?,
            tasks: tasks
                .into_values()
                .map(|record| record.definition)
                .collect(),
            orders,
        })
    }

    /// The first epoch that is not committed.
    pub fn epoch(&self) -> Epoch {
        self.progress.next_epoch()
    }

    /// Builds the first state of a worker's dataflow.
    pub fn start(&self, settings: &Settings, shard: Shard) -> Result<Start, Failure> {
        let unseen = self.start_unseen(settings, shard);
        let trials = match &unseen {
            Some(unseen) => unseen.groups.trials()?,
            None => Vec::new(),
        };
        Ok(Start {
            ingest: self.start_ingest(settings),
            predict: self.start_predict(settings, trials),
            label: self.start_label(settings, shard)?,
            unseen,
            learn: self.start_learn(settings, shard),
            train: self.start_train(settings, shard),
        })
    }

    /// Whether the base task has a deployed model, so that every sample gets a prediction.
    pub fn has_base_model(&self) -> bool {
        let mut deployed = self.deployed.iter();
        deployed.any(|model| model.model.task == TaskId::BASE)
    }
}

/// Whether a stream has been read to its end.
pub fn is_finished(progress: &Progress) -> bool {
    progress
        .header
        .is_some_and(|header| header.phase == Phase::Ended)
}
