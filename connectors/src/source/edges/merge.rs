//! Changes of all edges merged into one stream of samples: the order between edges, and what each
//! may share.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;

use perennial_operators::flow::{
    EdgeHistory, EdgeProgress, EdgeReport, Effect, KnowledgeChange, ModelDonated, SeenIds,
};
use perennial_operators::{Batch, TaskDefinition, TaskLevels};

use super::EdgesResume;
use super::cells::{CellSource, cell, fill};
use super::parked::{GONE, MessageSize};
use super::queue::{Between, Queue, TopicOffset};
use super::quota::DonatedModels;
use super::rights::{EdgeRights, KnownEdges, SignedChanges};
use crate::format::Row;
use crate::link::{Donation, LinkError};
use crate::schema::Schema;
use crate::source::decode::Decoder;

/// Changes of edges that have arrived, and the decoder of their samples.
///
/// A queue is looked at only when something has come to it or was taken from it, so that a sample
/// costs the same with ten edges and with thousands.
pub struct EdgeMerge {
    listening: KnownEdges,
    /// The edges, by name.
    edges: Vec<EdgeState>,
    /// Edges with a next sample: its time, and the edge.
    order: BinaryHeap<Reverse<(i64, usize)>>,
    /// Edges without a next sample.
    silent: BTreeSet<usize>,
    /// Edges of which it is unknown whether there is a next sample.
    unsettled: BTreeSet<usize>,
    /// Models that edges have donated.
    donated: BTreeMap<Arc<str>, DonatedModels>,
    /// Edges that are not in the config (any more) with their progress and history.
    absent: BTreeMap<Arc<str>, (EdgeProgress, EdgeHistory)>,
    schema: Schema,
    decoder: Decoder,
    row: Row,
    /// The source of each cell of a row.
    cells: Vec<CellSource>,
    effects: Vec<Effect>,
    moved: BTreeMap<Arc<str>, EdgeProgress>,
    histories: BTreeMap<Arc<str>, EdgeHistory>,
    refused: Vec<Refused>,
    /// Offsets of waiting messages by partition.
    waiting: BTreeMap<i32, BTreeSet<i64>>,
    /// Size of waiting messages.
    size: MessageSize,
}

/// An edge, and the changes of it that wait.
struct EdgeState {
    name: Arc<str>,
    rights: EdgeRights,
    queue: Queue,
}

/// A sample that cannot be taken in.
#[derive(Debug)]
pub struct BadSample {
    /// Name of the edge.
    pub edge: Arc<str>,
    /// Sequence number at the edge.
    pub sequence: u64,
    /// Why it cannot be taken in.
    pub reason: String,
}

/// A message that is refused after it was accepted, or a part of it.
pub(super) struct Refused {
    pub edge: Arc<str>,
    pub place: TopicOffset,
    pub reason: LinkError,
    pub is_whole: bool,
}

impl EdgeMerge {
    /// A merge that resumes where an earlier run has ended.
    pub fn new(
        listening: KnownEdges,
        schema: &Schema,
        duplicates_within: usize,
        resume: &EdgesResume,
    ) -> EdgeMerge {
        let mut decoder = Decoder::new(schema, true, duplicates_within);
        decoder.continue_from(resume.samples, &resume.seen);
        let cells = decoder.columns().iter().map(|name| cell(schema, name));
        let cells: Vec<CellSource> = cells.collect();
        let absent = resume.edges.iter().map(|(edge, progress)| {
            let history = resume.histories.get(edge).cloned().unwrap_or_default();
            (edge.as_str().into(), (*progress, history))
        });
        let mut merge = EdgeMerge {
            listening: KnownEdges {
                edges: BTreeMap::new(),
                ..listening
            },
            edges: Vec::new(),
            order: BinaryHeap::new(),
            silent: BTreeSet::new(),
            unsettled: BTreeSet::new(),
            donated: resume
                .donated
                .iter()
                .map(|(edge, donated)| (edge.as_str().into(), donated.clone()))
                .collect(),
            absent: absent.collect(),
            schema: schema.clone(),
            row: Row::new(cells.len()),
            decoder,
            cells,
            effects: Vec::new(),
            moved: BTreeMap::new(),
            histories: BTreeMap::new(),
            refused: Vec::new(),
            waiting: BTreeMap::new(),
            size: MessageSize::default(),
        };
        merge.set_edges(listening.edges);
        merge
    }

    /// Takes other edges and rights into force at once, also for what waits.
    pub(super) fn set_edges(&mut self, edges: BTreeMap<String, EdgeRights>) {
        let mut left: BTreeMap<Arc<str>, EdgeState> = std::mem::take(&mut self.edges)
            .into_iter()
            .map(|edge| (edge.name.clone(), edge))
            .collect();
        for (name, rights) in &edges {
            let mut edge = left.remove(name.as_str()).unwrap_or_else(|| {
                let (progress, history) = self.absent.remove(name.as_str()).unwrap_or_default();
                EdgeState {
                    name: name.as_str().into(),
                    rights: rights.clone(),
                    queue: Queue::new(name, progress, Some(history)),
                }
            });
            edge.rights = rights.clone();
            self.revoke(&mut edge);
            self.edges.push(edge);
        }
        let nothing = EdgeRights::none();
        for (name, mut edge) in left {
            edge.rights = nothing.clone();
            self.revoke(&mut edge);
            let (moved, history) = edge.queue.close();
            self.moved.extend(moved.map(|moved| (name.clone(), moved)));
            self.histories
                .extend(history.map(|history| (name.clone(), history)));
            let state = (edge.queue.progress(), edge.queue.history().clone());
            self.absent.insert(name, state);
        }
        self.listening.edges = edges;
        self.order.clear();
        self.silent.clear();
        self.unsettled = (0..self.edges.len()).collect();
    }

    /// Removes the messages of an edge that its rights no longer accept.
    fn revoke(&mut self, edge: &mut EdgeState) {
        for (place, size) in edge.queue.revoke(&edge.rights) {
            self.refused.push(Refused {
                edge: edge.name.clone(),
                place,
                reason: LinkError::Revoked,
                is_whole: true,
            });
            self.forget(place, size);
        }
    }

    /// Makes a sample bad whose task has the number of another task.
    pub fn check_tasks(&mut self, levels: &TaskLevels, tasks: &[TaskDefinition]) {
        self.decoder.check_tasks(levels, tasks);
    }

    /// Takes the ids of the good samples since the last call.
    pub fn take_seen(&mut self) -> SeenIds {
        self.decoder.take_seen()
    }

    /// Removes a message from those that wait.
    fn forget(&mut self, (partition, offset): TopicOffset, size: MessageSize) {
        self.size -= size;
        if let Some(offsets) = self.waiting.get_mut(&partition) {
            offsets.remove(&offset);
        }
    }

    /// The edges that are known, and their rights.
    pub(super) fn known(&self) -> &KnownEdges {
        &self.listening
    }

    /// The changes in a message with the key `key`.
    ///
    /// # Errors
    /// The message cannot be trusted or understood.
    pub fn open(&self, key: &[u8], value: Option<&[u8]>) -> Result<SignedChanges, LinkError> {
        self.listening.open(key, value)
    }

    /// Adds the changes of a message of `bytes` bytes at `offset` of `partition`.
    ///
    /// # Errors
    /// The edge is not known any more, its key was revoked, or the parts of the message do not
    /// match.
    pub fn push(
        &mut self,
        message: SignedChanges,
        bytes: usize,
        partition: i32,
        offset: i64,
    ) -> Result<(), LinkError> {
        let name = &message.changes.edge;
        let found = self.edges.binary_search_by(|edge| (*edge.name).cmp(name));
        let Some((at, edge)) = found
            .ok()
            .and_then(|at| Some((at, self.edges.get_mut(at)?)))
        else {
            return Err(LinkError::UnknownEdge(name.clone()));
        };
        if !edge.rights.accept(&message.signer, message.changes.sent) {
            return Err(LinkError::Revoked);
        }
        let size = MessageSize {
            own: bytes,
            models: message.changes.model_bytes(),
        };
        edge.queue.push(message, (partition, offset), size)?;
        self.size += size;
        if offset != GONE {
            self.waiting.entry(partition).or_default().insert(offset);
        }
        if self.silent.remove(&at) {
            self.unsettled.insert(at);
        }
        Ok(())
    }

    /// Decodes the next sample; none while it is unknown which one is next.
    pub fn take_sample(&mut self) -> Option<Result<(), BadSample>> {
        self.settle()?;
        let Reverse((_, at)) = self.order.pop()?;
        let edge = self.edges.get_mut(at)?;
        self.unsettled.insert(at);
        let (samples, row, offset) = edge.queue.next()?;
        let forbidden = edge.rights.forbid_sample(samples, row);
        let sequence = samples.sequences.get(row).copied().unwrap_or(0);
        let time = samples.times.get(row).copied().unwrap_or(0);
        let taken = match forbidden {
            Some(what) => {
                edge.queue.count_refused(&what);
                let edge = edge.name.to_string();
                Err(LinkError::Forbidden { edge, what }.to_string())
            }
            None => {
                let (cells, schema) = (&self.cells, &self.schema);
                fill(&mut self.row, cells, schema, &edge.name, samples, row);
                self.decoder.push(&self.row, offset.max(0) as u64)
            }
        };
        if taken.is_ok() {
            edge.queue.count_sample(time);
        }
        Some(taken.map_err(|reason| BadSample {
            edge: edge.name.clone(),
            sequence,
            reason,
        }))
    }

    /// Looks for the next sample of each edge of which it is unknown, in the order of names. None
    /// if an edge is waited for: those behind it are looked at once it has a sample.
    fn settle(&mut self) -> Option<()> {
        let in_order = self.listening.in_order;
        loop {
            let (next, silent) = (
                self.unsettled.first().copied(),
                self.silent.first().copied(),
            );
            if in_order && silent.is_some_and(|silent| next.is_none_or(|next| silent < next)) {
                return None;
            }
            let Some(at) = next else { return Some(()) };
            self.unsettled.remove(&at);
            let Some(edge) = self.edges.get_mut(at) else {
                continue;
            };
            let between = edge.queue.advance();
            match edge.queue.time() {
                Some(time) => self.order.push(Reverse((time, at))),
                None => {
                    self.silent.insert(at);
                }
            }
            self.take_between(at, between);
        }
    }

    /// Takes what lies between two samples of an edge.
    fn take_between(&mut self, at: usize, between: Between) {
        for (place, size) in between.done {
            self.forget(place, size);
        }
        let Some(edge) = self.edges.get_mut(at) else {
            return;
        };
        let whole = between.refused.into_iter().map(|it| (it, true));
        let parts = between.refused_parts.into_iter().map(|it| (it, false));
        for ((place, reason), is_whole) in whole.chain(parts) {
            if let LinkError::Forbidden { what, .. } = &reason {
                edge.queue.count_refused(what);
            }
            self.refused.push(Refused {
                edge: edge.name.clone(),
                place,
                reason,
                is_whole,
            });
        }
        let mut forbid = |place: TopicOffset, what: String| {
            edge.queue.count_refused(&what);
            self.refused.push(Refused {
                edge: edge.name.clone(),
                place,
                reason: LinkError::Forbidden {
                    edge: edge.name.to_string(),
                    what,
                },
                is_whole: false,
            });
        };
        for (place, statistics) in between.reported {
            match edge.rights.forbid_task(&statistics.task) {
                Some(what) => forbid(place, what),
                None => {
                    let edge = edge.name.clone();
                    let report = EdgeReport { edge, statistics };
                    self.effects
                        .push(Effect::Change(KnowledgeChange::EdgeReport(report)));
                }
            }
        }
        for (place, donation) in between.donated {
            let model = &donation.model;
            let (task, bytes) = (model.model.task, model.onnx.len() as u64);
            let donated = self.donated.entry(edge.name.clone()).or_default();
            let forbidden = edge.rights.forbid_model(&donation.path);
            match forbidden.or_else(|| donated.forbid(task, bytes, &edge.rights)) {
                Some(what) => forbid(place, what),
                None => {
                    donated.add(task, bytes);
                    self.effects.extend(donation_effects(&edge.name, donation));
                }
            }
        }
    }

    /// Removes models from a message that alone have more bytes than those of its edge may have
    /// together, by what the message says.
    pub(super) fn forbid_large(&self, message: &mut SignedChanges) {
        let SignedChanges {
            changes, refused, ..
        } = message;
        let Some(rights) = self.listening.edges.get(&changes.edge) else {
            return;
        };
        for (number, change) in &mut changes.changes {
            change.models.retain(|donation| {
                let (task, bytes) = (donation.model.model.task, donation.model.trained.bytes);
                let forbidden = DonatedModels::default().forbid(task, bytes, rights);
                let Some(what) = forbidden else { return true };
                let edge = changes.edge.clone();
                refused.push((*number, LinkError::Forbidden { edge, what }));
                false
            });
        }
    }

    /// Takes the samples decoded since the last call.
    pub fn take(&mut self) -> Batch {
        self.decoder.take()
    }

    /// Takes the messages, and parts of messages, that were refused since the last call.
    pub(super) fn take_refused(&mut self) -> Vec<Refused> {
        std::mem::take(&mut self.refused)
    }

    /// Takes what else has come since the last call: statistics and models of edges as effects, and
    /// the progress of the edges that moved.
    pub fn close(&mut self) -> (Vec<Effect>, BTreeMap<Arc<str>, EdgeProgress>) {
        for edge in &mut self.edges {
            let (moved, history) = edge.queue.close();
            self.moved
                .extend(moved.map(|moved| (edge.name.clone(), moved)));
            let history = history.map(|history| (edge.name.clone(), history));
            self.histories.extend(history);
        }
        (
            std::mem::take(&mut self.effects),
            std::mem::take(&mut self.moved),
        )
    }

    /// Takes the histories that moved, as of the last [`EdgeMerge::close`].
    pub fn take_histories(&mut self) -> BTreeMap<Arc<str>, EdgeHistory> {
        std::mem::take(&mut self.histories)
    }

    /// Whether the progress of an edge moved since the last [`EdgeMerge::close`].
    pub(super) fn has_moved(&self) -> bool {
        !self.moved.is_empty() || self.edges.iter().any(|edge| edge.queue.has_moved())
    }

    /// The offset of the first waiting message of a partition, at which a restart has to resume.
    pub fn first_offset(&self, partition: i32) -> Option<i64> {
        self.waiting.get(&partition)?.first().copied()
    }

    /// Notes that the topic has none of the waiting messages of a partition any more: a restart
    /// resumes without them.
    pub(super) fn forget_offsets(&mut self, partition: i32) {
        self.waiting.remove(&partition);
        for edge in &mut self.edges {
            edge.queue.forget_offsets(partition);
        }
    }

    /// Size of the waiting messages.
    pub(super) fn size(&self) -> MessageSize {
        self.size
    }

    /// The edge without a waiting sample for which all that waits is held, if it is.
    pub(super) fn waits_for(&self) -> Option<&str> {
        let at = *self.silent.first().filter(|_| self.listening.in_order)?;
        self.edges.get(at).map(|edge| &*edge.name)
    }

    /// Number of features of a sample.
    pub(super) fn features(&self) -> usize {
        self.schema.features.len()
    }
}

/// The effects of a donated model.
fn donation_effects(edge: &Arc<str>, donation: Donation) -> [Effect; 2] {
    let Donation { path, model } = donation;
    let hash = model.trained.hash.clone();
    let donated = ModelDonated {
        donor: edge.clone(),
        path,
        trained: model.trained,
        evaluated: model.evaluated,
    };
    [
        Effect::Change(KnowledgeChange::ModelDonated(Box::new(donated))),
        Effect::Model(hash, Arc::new(model.onnx)),
    ]
}
