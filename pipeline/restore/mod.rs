//! What the knowledge base gives the dataflow to go on with, worker by worker.

use std::collections::BTreeMap;
use std::sync::Arc;

use perennial_connectors::knowledge_base::{Progress, Retained, StageRecord, TaskRecord, View};
use perennial_connectors::source::edges::EdgesResume;
use perennial_connectors::source::kafka::Resume;
use perennial_operators::algorithms::cluster::Clusters;
use perennial_operators::algorithms::drift::Detectors;
use perennial_operators::algorithms::neighbours::Neighbours;
use perennial_operators::algorithms::pool::Adapters;
use perennial_operators::algorithms::recognize::{
    Calibrator, EpochScores, RecognitionRules, Reference,
};
use perennial_operators::algorithms::retain::Reservoir;
use perennial_operators::algorithms::unseen::{Asked, Entry, Regions, Requests};
use perennial_operators::flow::{
    DeployedModel, EarlyLabel, EdgeProgress, Phase, Revision, Settled, StageKind, TrainOrder,
    waiting_samples,
};
use perennial_operators::ingest::Allocator;
use perennial_operators::learn::{Held, RestoredMemory, RestoredStatistics, TaskTraining};
use perennial_operators::predict::Recognizer;
use perennial_operators::unseen::{GroupRules, Groups};
use perennial_operators::{
    Epoch, Failure, MemoryBounded, ModelId, RecentMoved, Renamed, TaskDefinition, TaskId,
    TaskLevels, TaskScores,
};

use crate::error::Error;
use crate::learning;

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
    pub renamed: Vec<Renamed>,
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

/// Whether a task belongs to a worker: the rule by which timely exchanges records by task.
fn belongs(task: TaskId, worker: usize, workers: usize) -> bool {
    task.0 % workers as u64 == worker as u64
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
    pub fn start(&self) -> Epoch {
        self.progress.next_epoch()
    }

    /// What is known of tasks that were unseen.
    pub fn settled(&self) -> Vec<Settled> {
        let defined = self.tasks.iter().map(|task| Settled::Defined(task.task));
        let aliases = self.aliases.iter();
        let aliases = aliases.map(|(task, old)| Settled::Alias(*task, old.clone()));
        let regions = self.regions.regions.iter();
        let regions = regions.map(|region| Settled::Region(region.path.leaf().task));
        let dissolved = self.regions.dissolved().map(Settled::Dissolved);
        let known = defined.chain(aliases).chain(regions);
        known.chain(dissolved).collect()
    }

    /// What allocates samples to tasks.
    pub fn allocator(&self, levels: TaskLevels) -> Allocator {
        let mut allocator = Allocator::new(levels);
        for (task, old) in &self.aliases {
            allocator.alias(*task, old.clone());
        }
        allocator
    }

    /// Unseen tasks, all on the first worker, and so many labels to ask for a day.
    pub fn groups(&self, rules: GroupRules, per_day: Option<f64>, worker: usize) -> Groups {
        if worker > 0 {
            return Groups::restore(rules, Vec::new(), [], None, Regions::default());
        }
        let deviations = self.deviations.as_deref().unwrap_or_default();
        let requests =
            per_day.map(|per_day| Requests::restore(per_day, deviations, self.asked.clone()));
        let tasks = self.tasks.iter().cloned();
        let regions = self.regions.clone();
        let mut groups = Groups::restore(rules, self.unseen.clone(), tasks, requests, regions);
        if let Some(reference) = &self.reference {
            groups.compare_with(reference.clone());
        }
        if let Some(calibration) = self.calibrator().calibration() {
            groups.calibrate(&calibration);
        }
        groups
    }

    /// Where to go on in topics.
    pub fn resume(&self) -> Result<Resume, Failure> {
        Ok(Resume {
            records: self.progress.records,
            samples: self.progress.samples,
            offsets: self.progress.offsets.clone(),
            waiting: waiting_samples(&self.pending, &self.released)?,
            early_labels: self.early_labels.clone(),
        })
    }

    /// Where to go on in what edges share.
    pub fn resume_edges(&self) -> EdgesResume {
        EdgesResume {
            records: self.progress.records,
            samples: self.progress.samples,
            offsets: self.progress.offsets.clone(),
            edges: self.edges.clone(),
        }
    }

    /// Whether there is a model that answers for all.
    pub fn answers(&self) -> bool {
        let mut deployed = self.deployed.iter();
        deployed.any(|model| model.model.task == TaskId::BASE)
    }

    /// The statistics of a worker's tasks.
    pub fn statistics(&self, worker: usize, workers: usize) -> Vec<RestoredStatistics> {
        self.statistics
            .iter()
            .filter(|restored| belongs(restored.task, worker, workers))
            .cloned()
            .collect()
    }

    /// The adapters of a worker's tasks.
    pub fn adapters(&self, worker: usize, workers: usize) -> Adapters {
        let adapters = self.adapters.iter();
        let mine = adapters.filter(|(task, _)| belongs(**task, worker, workers));
        mine.map(|(task, adapter)| (*task, adapter.clone()))
            .collect()
    }

    /// What watches a worker's tasks for drift.
    pub fn detectors(&self, worker: usize, workers: usize) -> Vec<(TaskId, Arc<Detectors>)> {
        let stand = self.statistics.iter();
        let mine = stand.filter(|restored| belongs(restored.task, worker, workers));
        mine.filter_map(|RestoredStatistics { task, total, .. }| {
            let detectors = self.detectors.get(task)?;
            Some((*task, Arc::new((**detectors).clone().resume(total.score))))
        })
        .collect()
    }

    /// How samples of known tasks were scored as those of unseen ones would be.
    pub fn calibrator(&self) -> Calibrator {
        let epochs = self.calibration.iter();
        Calibrator::restore(epochs.map(|(epoch, scores)| (*epoch, scores.clone())))
    }

    /// The tasks of which there are so many labels, here or in the cloud.
    pub fn known(&self, labels: i64) -> impl Iterator<Item = TaskId> {
        let stand = self.statistics.iter();
        let known = stand.filter(move |restored| restored.total.labelled >= labels);
        // What donors know of their tasks says nothing of those here.
        let followed = self.followed.keys().filter(|(_, donor)| *donor == 0);
        let followed = followed.map(|(task, _)| *task);
        known.map(|restored| restored.task).chain(followed)
    }

    /// What recognizes unseen samples by these rules.
    pub fn recognizer(&self, rules: RecognitionRules) -> Recognizer {
        let known = self.known(rules.known_after);
        let mut recognizer = Recognizer::new(rules, known);
        if let Some(reference) = &self.reference {
            recognizer.compare_with(reference.clone());
        }
        if let Some(calibration) = self.calibrator().calibration() {
            recognizer.calibrate(Arc::new(calibration));
        }
        recognizer.divide(self.regions.regions.clone());
        recognizer
    }

    /// What samples find their neighbours among, up to `most` of each task.
    pub fn neighbours(&self, most: usize) -> Neighbours {
        let mut neighbours = Neighbours::new(most);
        if let Some(deviations) = &self.deviations {
            neighbours.scale(deviations);
        }
        for (_, moved) in &self.recents {
            neighbours.learn(moved);
        }
        neighbours
    }

    /// The epochs that the recent samples of a worker's tasks are of.
    pub fn held(&self, worker: usize, workers: usize) -> Vec<(TaskId, Held)> {
        let mut held: BTreeMap<TaskId, Held> = BTreeMap::new();
        for (epoch, moved) in &self.recents {
            if belongs(moved.task, worker, workers) {
                let count = moved.samples.labels.len();
                held.entry(moved.task)
                    .or_default()
                    .push_back((*epoch, count));
            }
        }
        held.into_iter().collect()
    }

    /// What is retained, of a worker's tasks.
    pub fn memory(&self, worker: usize, workers: usize) -> RestoredMemory {
        let reservoir = |retained: &Retained| {
            Reservoir::restore(&retained.classes, retained.samples.iter().copied())
        };
        let all = || self.retained.iter();
        let seen = |retained: &Retained| retained.classes.iter().map(|class| class.seen).sum();
        let limits = |retained: &Retained| -> Vec<Option<u64>> {
            retained.classes.iter().map(|class| class.limit).collect()
        };
        RestoredMemory {
            start: self.start(),
            bounded: self.bounded,
            reservoirs: all()
                .filter(|(task, _)| belongs(**task, worker, workers))
                .map(|(task, retained)| (*task, reservoir(retained)))
                .collect(),
            limits: all()
                .map(|(task, retained)| (*task, limits(retained)))
                .filter(|(_, limits)| limits.iter().any(Option::is_some))
                .collect(),
            seen: all()
                .map(|(task, retained)| (*task, seen(retained)))
                .collect(),
        }
    }

    /// The training state of a worker's tasks.
    pub fn training(&self, worker: usize, workers: usize) -> Vec<(TaskId, TaskTraining)> {
        self.training
            .iter()
            .filter(|(task, _)| belongs(*task, worker, workers))
            .cloned()
            .collect()
    }

    /// A worker's share of the samples that wait.
    pub fn pending(&self, worker: usize, workers: usize) -> Vec<Vec<u8>> {
        let mine = self.pending.iter().skip(worker).step_by(workers);
        mine.cloned().collect()
    }
}

/// Orders whose stages have not ended.
fn unfinished(stages: &BTreeMap<(ModelId, StageKind), StageRecord>) -> Vec<TrainOrder> {
    stages
        .iter()
        .filter(|((_, kind), record)| *kind == StageKind::Train && !record.state().ended())
        .map(|((model, _), record)| TrainOrder {
            model: *model,
            labelled: record.labelled,
            clock: record.clock,
            reason: record.reason.clone(),
            initial: record.initial,
            recent: record.recent,
        })
        .collect()
}

fn deployed(
    view: &View<'_>,
    tasks: &BTreeMap<TaskId, TaskRecord>,
    keep_frozen: bool,
) -> Result<Vec<DeployedModel>, Error> {
    let mut models = Vec::new();
    let frozen = ModelId {
        task: TaskId::BASE,
        version: 1,
    };
    let base = tasks.get(&TaskId::BASE).and_then(|record| record.deployed);
    if keep_frozen && base.is_some_and(|version| version != frozen.version) {
        models.push(learning::load(view, frozen)?);
    }
    for (task, record) in tasks {
        if let Some(version) = record.deployed {
            let model = ModelId {
                task: *task,
                version,
            };
            models.push(learning::load(view, model)?);
        }
    }
    Ok(models)
}

/// In the order in which they became known.
fn recents(
    view: &View<'_>,
    tasks: &BTreeMap<TaskId, TaskRecord>,
) -> Result<Vec<(Epoch, RecentMoved)>, Error> {
    let recents = view.recents()?.into_iter().map(|((task, epoch), samples)| {
        let parent = tasks.get(&task).and_then(|record| record.definition.parent);
        let moved = RecentMoved {
            task,
            parent,
            samples: Arc::new(samples),
            left: Vec::new(),
        };
        (epoch, moved)
    });
    let mut recents: Vec<_> = recents.collect();
    recents.sort_by_key(|(epoch, moved)| (*epoch, moved.task));
    Ok(recents)
}

fn statistics(view: &View<'_>) -> Result<Vec<RestoredStatistics>, Error> {
    let mut windows: BTreeMap<TaskId, Vec<(Epoch, TaskScores)>> = BTreeMap::new();
    for ((task, epoch), scores) in view.windows()? {
        windows.entry(task).or_default().push((epoch, scores));
    }
    let restored = view.scores()?.into_iter().map(|(task, total)| {
        let window = windows.remove(&task).unwrap_or_default();
        RestoredStatistics {
            task,
            total,
            window,
        }
    });
    Ok(restored.collect())
}

fn training(
    tasks: &BTreeMap<TaskId, TaskRecord>,
    orders: &[TrainOrder],
    detectors: &BTreeMap<TaskId, Arc<Detectors>>,
) -> Vec<(TaskId, TaskTraining)> {
    tasks
        .iter()
        .filter(|(task, record)| record.ordered > 0 || detectors.contains_key(task))
        .map(|(task, record)| {
            let running = orders.iter().any(|order| order.model.task == *task);
            let mut training = TaskTraining::ordered(
                record.ordered,
                record.labelled_at_order,
                record.clock_at_order,
                running,
            );
            training.drift = detectors.get(task).and_then(|watching| watching.latest);
            (*task, training)
        })
        .collect()
}

/// Whether a stream has come to its end.
pub fn is_finished(progress: &Progress) -> bool {
    progress
        .header
        .is_some_and(|header| header.phase == Phase::Ended)
}
