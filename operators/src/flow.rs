//! What the operators say to each other: the records of the streams between them.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use ndarray::Array2;
use serde::{Deserialize, Serialize};

use crate::allocate::order_by_group;
use crate::infer::{Trial, Tried};
use crate::integrate::Pool;
use crate::recognize::Recognized;
use crate::recognize::calibration::Calibration;
use crate::recognize::reference::Reference;
use crate::share::SharedSamples;
use crate::unseen::region::Region;
use crate::{
    AdapterMoved, Batch, DeadLetter, EarlyLabel, Epoch, EpochHeader, KnowledgeChange, ModelId,
    Offsets, RecentMoved, TaskId, TaskPath,
};

/// A stream of one kind of record between operators.
pub type Flow<'scope, D> = timely::dataflow::StreamVec<'scope, Epoch, D>;

/// The rows of a batch that belong to one finest task.
#[derive(Clone, Debug)]
pub struct Group {
    /// The way from the base task to the finest.
    pub path: Rc<TaskPath>,
    /// Where the group's rows begin in [`Allocated::order`].
    pub start: usize,
    /// Where they end.
    pub end: usize,
}

/// A batch whose rows are allocated to tasks.
#[derive(Clone, Debug)]
pub struct Allocated {
    /// The epoch.
    pub header: EpochHeader,
    /// The samples.
    pub batch: Batch,
    /// The groups, by first appearance.
    pub groups: Vec<Group>,
    /// Row numbers, group by group, ascending within each.
    pub order: Vec<u32>,
    /// For each row the number of its group.
    pub group_of: Vec<u32>,
    /// See [`Slice::labels`](crate::Slice::labels).
    pub labels: Arc<Vec<(u64, f32)>>,
}

impl Allocated {
    /// The same rows, some of them on other paths.
    pub(crate) fn moved(self, to: &[Option<&TaskPath>]) -> Allocated {
        let mut paths: Vec<Rc<TaskPath>> =
            self.groups.into_iter().map(|group| group.path).collect();
        let mut group_of = self.group_of;
        for (group, path) in group_of.iter_mut().zip(to) {
            let Some(path) = path else { continue };
            let known = paths.iter().position(|known| **known == **path);
            *group = known.unwrap_or(paths.len()) as u32;
            if known.is_none() {
                paths.push(Rc::new((*path).clone()));
            }
        }
        // Some may be left without rows, and groups are numbered by first appearance.
        let mut places = vec![u32::MAX; paths.len()];
        let mut groups: Vec<Group> = Vec::new();
        for group in &mut group_of {
            let place = &mut places[*group as usize];
            if *place == u32::MAX {
                *place = groups.len() as u32;
                let path = paths[*group as usize].clone();
                groups.push(Group {
                    path,
                    start: 0,
                    end: 0,
                });
            }
            *group = *place;
            groups[*place as usize].end += 1;
        }
        let mut start = 0;
        for group in &mut groups {
            (group.start, group.end) = (start, start + group.end);
            start = group.end;
        }
        Allocated {
            order: order_by_group(&group_of, &groups),
            groups,
            group_of,
            ..self
        }
    }
}

/// A batch with its predictions. In the bootstrap nothing is predicted and the arrays are empty.
#[derive(Clone, Debug)]
pub struct Scored {
    /// The samples and their tasks.
    pub allocated: Rc<Allocated>,
    /// Class probabilities: one row a sample, one column a class. Where the label is a number, one column with it.
    pub probabilities: Array2<f32>,
    /// For each group, how the answers of the models along its path became one.
    pub pools: Vec<Rc<Pool>>,
    /// What these models and the neighbours said: one row a sample, one column a class (or one, for a number) of each of its
    /// group's pool.
    pub answers: Array2<f32>,
    /// The baselines' answers to the same samples, in the order of the config.
    pub baselines: Vec<Array2<f32>>,
    /// Which samples are taken for those of unseen tasks, if that is looked at.
    pub recognized: Option<Recognized>,
    /// Unseen tasks that were tried in this epoch.
    pub tried: Vec<Tried>,
}

impl Scored {
    /// Whether the batch was predicted, not only read.
    pub fn is_predicted(&self) -> bool {
        self.probabilities.nrows() == self.allocated.batch.len() && !self.pools.is_empty()
    }

    /// Leaves the samples to the first so many tasks of their paths.
    pub(crate) fn cut(&mut self, nodes: usize) {
        for group in &mut Rc::make_mut(&mut self.allocated).groups {
            Rc::make_mut(&mut group.path).nodes.truncate(nodes);
        }
        for pool in &mut self.pools {
            Rc::make_mut(pool).cut(nodes);
        }
    }
}

/// The class with the highest probability, the first of equals; what a prediction says.
pub fn predicted_class(probabilities: ndarray::ArrayView1<'_, f32>) -> usize {
    let mut best = 0;
    for (class, probability) in probabilities.iter().enumerate() {
        if *probability > probabilities[best] {
            best = class;
        }
    }
    best
}

/// Rows of one batch whose labels became known.
#[derive(Clone, Debug)]
pub struct Labelled {
    /// The samples and what was predicted of them.
    pub scored: Rc<Scored>,
    /// Which rows.
    pub rows: Vec<u32>,
    /// Their class numbers, or numbers, one a row of `rows`.
    pub labels: Vec<f32>,
}

/// All labels that became known to one worker in an epoch.
#[derive(Clone, Debug)]
pub struct LabelledEpoch {
    /// Batch by batch, oldest first.
    pub parts: Vec<Labelled>,
}

/// A model that answers for its task from the next epoch on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeployedModel {
    /// Which model.
    pub model: ModelId,
    /// BLAKE3 hash of its ONNX bytes, in hexadecimal.
    pub hash: String,
    /// Its ONNX bytes.
    pub onnx: Arc<Vec<u8>>,
    /// See [`Answering::evidence`](crate::integrate::Answering::evidence).
    pub evidence: f32,
    /// See [`ModelEvaluated::scale`](crate::ModelEvaluated::scale).
    pub scale: Option<f32>,
}

/// A change of the models that answer, from the next epoch on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Deployment {
    /// A model takes over for its task.
    Deploy(DeployedModel),
    /// An earlier model answers again, if the one that did worse still does.
    Restore {
        /// The one that did worse.
        from: ModelId,
        /// The earlier one.
        to: DeployedModel,
    },
    /// A task no longer has a model of its own, if this one answers; with version 0, whichever does.
    Retire(ModelId),
}

impl Deployment {
    /// The task that it is about.
    pub fn task(&self) -> TaskId {
        match self {
            Deployment::Deploy(deployed) => deployed.model.task,
            Deployment::Restore { from, .. } => from.task,
            Deployment::Retire(model) => model.task,
        }
    }

    /// Its place among those of an epoch, which is that of its change; see [`KnowledgeChange::place`].
    fn place(&self) -> (u32, bool) {
        match self {
            Deployment::Restore { .. } => (0, false),
            Deployment::Deploy(deployed) => (deployed.model.version, false),
            Deployment::Retire(model) => (model.version, true),
        }
    }
}

/// What inference is told over the feedback edge.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Learned {
    /// The models that answer change.
    Deployment(Deployment),
    /// A task's adapter has learned.
    Adapter(AdapterMoved),
    /// Labels came in for samples of a task.
    Recent(RecentMoved),
    /// How much each feature varies: its standard deviation.
    Scales(Vec<f32>),
    /// There are enough labels of a task for it to be known.
    Known(TaskId),
    /// What samples of known tasks look like.
    Reference(Arc<Reference>),
    /// How they are scored.
    Calibration(Arc<Calibration>),
    /// Where samples are that look like none of known tasks.
    Regions(Arc<Vec<Region>>),
    /// An unseen task is to be tried on the tasks beside it.
    Trial(Arc<Trial>),
}

impl Learned {
    /// Its place among what arrives for an epoch: the same deployments come last there as in the knowledge base.
    pub(crate) fn place(&self) -> impl Ord + use<> {
        let deployment = match self {
            Learned::Deployment(deployment) => Some(deployment.place()),
            _ => None,
        };
        (self.task(), deployment)
    }

    /// The task that it is about.
    pub fn task(&self) -> TaskId {
        match self {
            Learned::Deployment(deployment) => deployment.task(),
            Learned::Adapter(moved) => moved.task,
            Learned::Recent(moved) => moved.task,
            Learned::Known(task) => *task,
            Learned::Trial(trial) => trial.task,
            Learned::Scales(_)
            | Learned::Reference(_)
            | Learned::Calibration(_)
            | Learned::Regions(_) => TaskId::BASE,
        }
    }
}

/// The order to train a model.
#[derive(Clone, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct TrainOrder {
    /// The model to be: its task, and the version it will have.
    pub model: ModelId,
    /// Labelled samples of the task when the order was given.
    pub labelled: i64,
    /// The stream's clock then.
    pub clock: i64,
    /// The condition that gave it.
    pub reason: String,
    /// Whether it belongs to the initial training, for which even live inference waits.
    pub initial: bool,
    /// Where drift gave it, how many labels of the task had come since.
    pub recent: Option<u64>,
}

/// What a training stage ended with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TrainOutcome {
    /// Which model it was about.
    pub model: ModelId,
    /// What is now known of it.
    pub changes: Vec<KnowledgeChange>,
    /// What becomes of the task's model, if anything does.
    pub deployment: Option<Deployment>,
    /// The bytes of models that answer nothing here, under their hashes.
    pub models: Vec<(String, Arc<Vec<u8>>)>,
}

/// What a source read for an epoch, good or bad.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Intake {
    /// The epoch.
    pub header: EpochHeader,
    /// Records read.
    pub records: u64,
    /// Good samples among them.
    pub samples: u64,
    /// Good samples that belonged to the bootstrap.
    pub bootstrapped: u64,
    /// Whether the stream has ended with this epoch.
    pub ended: bool,
    /// The epoch's bad records.
    pub dead_letters: Vec<DeadLetter>,
    /// Where reading goes on after this epoch, for the partitions that it moved on in.
    pub offsets: Offsets,
    /// Labels that came before their samples and wait on from this epoch.
    pub early_labels: Vec<EarlyLabel>,
    /// Earlier ones that wait no more, by the numbers of their ids.
    pub settled_labels: Vec<u64>,
    /// How far what edges share was taken in, for those of which something was.
    pub edges: BTreeMap<Arc<str>, EdgeProgress>,
}

/// How far what an edge shares was taken in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeProgress {
    /// When the edge's knowledge base was made, microseconds since 1970 by its clock: one that is made anew counts anew.
    pub since: i64,
    /// The number of the next change to take in.
    pub next: u64,
    /// Samples of that one that were taken in.
    pub rows: u64,
    /// Samples taken in so far.
    pub samples: u64,
    /// Samples that the edge has shed, as it last said.
    pub shed: u64,
    /// The latest event time of its samples, microseconds since 1970.
    pub time: i64,
    /// When it sent what was last taken in, microseconds since 1970 by its clock.
    pub sent: i64,
    /// Bytes of the messages that were taken in.
    pub bytes: u64,
}

impl Intake {
    /// Adds what another reader read in the same epoch.
    pub fn merge(&mut self, other: Intake) {
        self.records += other.records;
        self.samples += other.samples;
        self.bootstrapped += other.bootstrapped;
        self.header.end = self.header.end.max(other.header.end);
        self.header.clock = self.header.clock.max(other.header.clock);
        self.ended &= other.ended;
        self.dead_letters.extend(other.dead_letters);
        self.dead_letters.sort();
        self.offsets.extend(other.offsets);
        self.early_labels.extend(other.early_labels);
        self.settled_labels.extend(other.settled_labels);
        self.edges.extend(other.edges);
    }
}

/// Something that an epoch does and that is committed with it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Effect {
    /// Input was read.
    Intake(Intake),
    /// Something was learned.
    Change(KnowledgeChange),
    /// The bytes of a model, stored under their hash.
    Model(String, Arc<Vec<u8>>),
    /// Predictions of a slice, ready to be written.
    Predictions {
        /// Sequence number of the first of them.
        first: u64,
        /// How many.
        rows: u64,
        /// In the output's format.
        bytes: Vec<u8>,
    },
    /// Samples of this epoch that still wait for their labels at its end.
    Pending {
        /// Sequence number of the last of them.
        last: u64,
        /// The samples, serialized by the join.
        bytes: Vec<u8>,
    },
    /// Samples of earlier epochs whose labels came in this one.
    Released {
        /// Once no sample up to this sequence number waits, this is no longer needed.
        last: u64,
        /// Their sequence numbers, serialized by the join.
        bytes: Vec<u8>,
    },
    /// Samples before this sequence number no longer wait on the sending worker.
    PendingFloor(u64),
    /// Labelled samples that are shared.
    Shared(SharedSamples),
    /// Predictions whose label will never be known.
    Unlabelled(u64),
    /// Predictions of samples that are taken for those of unseen tasks.
    Unseen(u64),
}

/// All effects of an epoch, in an order that does not depend on the number of workers.
#[derive(Clone, Debug)]
pub struct EpochEffects {
    /// The epoch.
    pub epoch: Epoch,
    /// What was read, if anything was.
    pub intake: Option<Intake>,
    /// What was learned, in canonical order.
    pub changes: Vec<KnowledgeChange>,
    /// New models.
    pub models: Vec<(String, Arc<Vec<u8>>)>,
    /// Predictions, slice by slice in input order.
    pub predictions: Vec<(u64, Vec<u8>)>,
    /// Samples that wait: the last sequence number of each slice, and the slice.
    pub pending: Vec<(u64, Vec<u8>)>,
    /// Samples that wait no more, list by list, each with the sequence number up to which it is needed.
    pub released: Vec<(u64, Vec<u8>)>,
    /// Labelled samples that are shared.
    pub shared: Vec<SharedSamples>,
    /// Nothing before this sequence number waits; none if the epoch says nothing of that, as one in which
    /// nothing is read.
    pub pending_floor: Option<u64>,
    /// Predictions whose label will never be known.
    pub unlabelled: u64,
    /// Predictions of samples that are taken for those of unseen tasks.
    pub unseen: u64,
}
