//! First state of the dataflow, as the knowledge base has it: worker by worker, stage by stage.

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
use perennial_operators::algorithms::cluster::Clusters;
use perennial_operators::algorithms::drift::Detectors;
use perennial_operators::algorithms::pool::Adapters;
use perennial_operators::algorithms::recognize::{EpochScores, Reference};
use perennial_operators::algorithms::unseen::{Asked, Entry, Regions};
use perennial_operators::flow::{
    DeployedModel, EarlyLabel, EdgeProgress, Phase, Revision, TrainOrder,
};
use perennial_operators::learn::{RestoredStatistics, TaskTraining};
use perennial_operators::{
    Epoch, Failure, MemoryBounded, RecentMoved, TaskDefinition, TaskId, TaskPseudonym,
};

pub use self::ingest::IngestStart;
pub use self::label::LabelStart;
pub use self::learn::LearnStart;
use self::learn::{recents, statistics};
pub use self::predict::PredictStart;
use self::predict::deployed;
pub use self::train::TrainStart;
use self::train::{training, unfinished};
pub use self::unseen::UnseenStart;
use crate::config::Settings;
use crate::error::Error;

/// The knowledge base as the dataflow starts from it.
#[derive(Clone)]
pub struct Restored {
    /// Where the stream stands.
    pub progress: Progress,
    /// The clusters of features, if they were found.
    pub clusters: Option<Arc<Clusters>>,
    /// Every task that is defined.
    pub tasks: Vec<TaskDefinition>,
    /// Unseen tasks, and what they hold.
    unseen: Vec<Entry>,
    /// Samples that wait whose labels are asked for.
    pub requested: Vec<u64>,
    /// The revisions of tasks that were taken in from the cloud.
    followed: BTreeMap<(TaskId, u64), Revision>,
    /// Tasks that have another name where samples are shared.
    pub renamed: Vec<TaskPseudonym>,
    /// How far what edges share was taken in.
    edges: BTreeMap<String, EdgeProgress>,
    /// Where samples are that look like none of known tasks.
    regions: Regions,
    /// What labels have been asked for.
    asked: Asked,
    /// Tasks that are others under another name.
    aliases: BTreeMap<TaskId, TaskDefinition>,
    /// The models that answer, the frozen baseline first.
    pub deployed: Vec<DeployedModel>,
    /// Orders that were given and not finished.
    pub orders: Vec<TrainOrder>,
    /// Samples that wait for labels.
    pub pending: Vec<Vec<u8>>,
    /// Samples among them whose own labels have come.
    pub released: Vec<Vec<u8>>,
    /// What tasks have learned from labels.
    pub adapters: Adapters,
    /// What watches tasks for drift.
    detectors: BTreeMap<TaskId, Arc<Detectors>>,
    /// How samples of known tasks were scored as those of unseen ones would be.
    calibration: BTreeMap<Epoch, EpochScores>,
    /// What samples of known tasks look like.
    reference: Option<Arc<Reference>>,
    /// The latest labelled samples of finest tasks, oldest first.
    recents: Vec<(Epoch, RecentMoved)>,
    /// How much each feature varies, once it is known.
    deviations: Option<Vec<f32>>,
    /// Labels that wait for their samples.
    pub early_labels: Vec<EarlyLabel>,
    statistics: Vec<RestoredStatistics>,
    bounded: Option<MemoryBounded>,
    retained: BTreeMap<TaskId, Retained>,
    training: Vec<(TaskId, TaskTraining)>,
}

/// The part of all tasks that one of several workers keeps.
#[derive(Clone, Copy)]
pub struct Shard {
    /// Number of the worker.
    pub worker: usize,
    /// Number of all workers.
    pub workers: usize,
}

impl Shard {
    /// Whether a task belongs to the worker: the rule by which timely exchanges records by task.
    fn has(self, task: TaskId) -> bool {
        task.0 % self.workers as u64 == self.worker as u64
    }
}

/// First state of a worker's dataflow, stage by stage.
pub struct Start {
    /// Of the stage ingest.
    pub ingest: IngestStart,
    /// Of the stage predict.
    pub predict: PredictStart,
    /// Of the stage label.
    pub label: LabelStart,
    /// Of the stage unseen, if unseen samples are recognized.
    pub unseen: Option<UnseenStart>,
    /// Of the stage learn.
    pub learn: LearnStart,
    /// Of the stage train.
    pub train: TrainStart,
}

impl Restored {
    /// Reads it from a view; `keep_frozen` loads the first base model too, `with_recents` the recent samples.
    pub fn read(view: &View<'_>, keep_frozen: bool, with_recents: bool) -> Result<Self, Error> {
        let tasks = view.tasks()?;
        let stages = view.stages()?;
        let orders = unfinished(&stages);
        let detectors = view.detectors()?;
        Ok(Restored {
            progress: view.progress()?,
            clusters: view.clusters()?,
            deployed: deployed(view, &tasks, keep_frozen)?,
            pending: view.pending()?,
            released: view.released()?,
            adapters: view.adapters()?.into_iter().collect(),
            recents: match with_recents {
                true => recents(view, &tasks)?,
                false => Vec::new(),
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
            followed: view.followed()?,
            renamed: view.renamed()?.into_values().collect(),
            edges: view.edges()?,
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

    /// First state of a worker's dataflow.
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

    /// Whether there is a model that answers for all.
    pub fn answers(&self) -> bool {
        let mut deployed = self.deployed.iter();
        deployed.any(|model| model.model.task == TaskId::BASE)
    }
}

/// Whether a stream has come to its end.
pub fn is_finished(progress: &Progress) -> bool {
    progress
        .header
        .is_some_and(|header| header.phase == Phase::Ended)
}
