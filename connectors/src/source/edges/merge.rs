//! Changes of all edges merged into one stream of samples: checks of messages, and the order
//! between edges.

use std::collections::BTreeMap;
use std::sync::Arc;

use ed25519_dalek::VerifyingKey;
use perennial_operators::flow::{
    EdgeProgress, EdgeReport, Effect, KnowledgeChange, ModelDonated, SeenIds,
};
use perennial_operators::{Batch, SharedSamples, TaskDefinition, TaskLevels};

use super::EdgesResume;
use super::queue::Queue;
use crate::format::Row;
use crate::link::{Changes, Donation, LinkError, open};
use crate::schema::{Feature, Schema};
use crate::source::decode::Decoder;

/// The edges whose changes are accepted.
#[derive(Clone, Debug)]
pub struct KnownEdges {
    /// The public key of each edge, by name.
    pub edges: BTreeMap<String, VerifyingKey>,
    /// The expected [`schema_hash`](crate::link::schema_hash) of changes.
    pub schema: String,
    /// Whether to wait for every edge, so that the same changes give the same stream in whatever
    /// order they arrive.
    pub in_order: bool,
}

/// Changes of edges that have arrived, and the decoder of their samples.
pub struct EdgeMerge {
    listening: KnownEdges,
    queues: BTreeMap<Arc<str>, Queue>,
    schema: Schema,
    decoder: Decoder,
    row: Row,
    /// The source of each cell of a row.
    cells: Vec<CellSource>,
    effects: Vec<Effect>,
    moved: BTreeMap<Arc<str>, EdgeProgress>,
}

/// The part of a shared sample that a column of the schema is filled from.
#[derive(Clone, Copy)]
enum CellSource {
    Id,
    Time,
    Attribute(usize),
    Feature(usize),
    Label,
}

/// A sample that cannot be decoded.
#[derive(Debug)]
pub struct BadSample {
    /// Name of the edge.
    pub edge: Arc<str>,
    /// Sequence number at the edge.
    pub sequence: u64,
    /// Why it cannot be decoded.
    pub reason: String,
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
        let queue = |edge: &String| {
            let progress = resume.edges.get(edge).copied();
            (
                edge.as_str().into(),
                Queue::new(progress.unwrap_or_default()),
            )
        };
        EdgeMerge {
            queues: listening.edges.keys().map(queue).collect(),
            listening,
            schema: schema.clone(),
            row: Row::new(cells.len()),
            decoder,
            cells,
            effects: Vec::new(),
            moved: BTreeMap::new(),
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

    /// The changes in a message with the key `key`.
    ///
    /// # Errors
    /// The message cannot be trusted or understood.
    pub fn open(&self, key: &[u8], value: Option<&[u8]>) -> Result<Changes, LinkError> {
        let edge = String::from_utf8_lossy(key);
        let Some(signer) = self.listening.edges.get(&*edge) else {
            return Err(LinkError::UnknownEdge(edge.into_owned()));
        };
        let value = value.ok_or(LinkError::Torn)?;
        let changes: Changes = open(value, signer, &format!("edge \"{edge}\""))?;
        if changes.edge != edge {
            return Err(LinkError::Edge {
                key: edge.into_owned(),
                found: changes.edge,
            });
        }
        if changes.schema != self.listening.schema {
            return Err(LinkError::Schema);
        }
        Ok(changes)
    }

    /// Adds the changes of a message of `size` bytes at `offset` of `partition`.
    ///
    /// # Errors
    /// The message is of an earlier knowledge base of the edge, or its parts do not match.
    pub fn push(
        &mut self,
        changes: Changes,
        size: usize,
        partition: i32,
        offset: i64,
    ) -> Result<(), LinkError> {
        match self.queues.get_mut(&*changes.edge) {
            Some(queue) => queue.push(changes, partition, offset, size),
            None => Ok(()),
        }
    }

    /// Decodes the next sample; none while it is unknown which one is next.
    pub fn take_sample(&mut self) -> Option<Result<(), BadSample>> {
        let edge = self.earliest()?;
        let queue = self.queues.get_mut(&edge)?;
        let (samples, row, offset) = queue.next()?;
        let (cells, schema) = (&self.cells, &self.schema);
        fill(&mut self.row, cells, schema, &edge, samples, row);
        let pushed = self.decoder.push(&self.row, offset.max(0) as u64);
        let pushed = pushed.map_err(|reason| BadSample {
            edge: edge.clone(),
            sequence: samples.sequences.get(row).copied().unwrap_or(0),
            reason,
        });
        self.moved.insert(edge, queue.progress());
        Some(pushed)
    }

    /// The edge with the next sample, if that is known.
    fn earliest(&mut self) -> Option<Arc<str>> {
        let mut first: Option<(i64, &Arc<str>)> = None;
        for (edge, queue) in &mut self.queues {
            let (reported, donated) = queue.advance();
            let reported = reported.into_iter().map(|statistics| {
                Effect::Change(KnowledgeChange::EdgeReport(EdgeReport {
                    edge: edge.clone(),
                    statistics,
                }))
            });
            self.effects.extend(reported);
            let donated = donated
                .into_iter()
                .flat_map(|donation| donation_effects(edge, donation));
            self.effects.extend(donated);
            if let Some(progress) = queue.moved() {
                self.moved.insert(edge.clone(), progress);
            }
            match queue.time() {
                Some(time) if first.is_none_or(|(earliest, _)| time < earliest) => {
                    first = Some((time, edge));
                }
                None if self.listening.in_order => return None,
                _ => {}
            }
        }
        first.map(|(_, edge)| edge.clone())
    }

    /// Takes the samples decoded since the last call.
    pub fn take(&mut self) -> Batch {
        self.decoder.take()
    }

    /// Takes what else has come since the last call: statistics and models of edges as effects, and
    /// the progress of the edges that moved.
    pub fn close(&mut self) -> (Vec<Effect>, BTreeMap<Arc<str>, EdgeProgress>) {
        (
            std::mem::take(&mut self.effects),
            std::mem::take(&mut self.moved),
        )
    }

    /// Whether the progress of an edge moved since the last [`EdgeMerge::close`].
    pub(super) fn has_moved(&self) -> bool {
        !self.moved.is_empty()
    }

    /// The offset of the first waiting message of a partition, at which a restart has to resume.
    pub fn first_offset(&self, partition: i32) -> Option<i64> {
        let queues = self.queues.values();
        queues
            .filter_map(|queue| queue.first_offset(partition))
            .min()
    }

    /// Bytes of the waiting messages.
    pub(super) fn bytes(&self) -> usize {
        self.queues.values().map(Queue::bytes).sum()
    }

    /// The first edge without a waiting sample.
    pub(super) fn silent(&self) -> Option<&str> {
        let mut queues = self.queues.iter();
        let silent = queues.find(|(_, queue)| queue.time().is_none());
        silent.map(|(edge, _)| &**edge)
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

/// The source of a column. A column with several uses is an attribute first, since its text has all
/// that the other uses need.
fn cell(schema: &Schema, name: &str) -> CellSource {
    let attribute = schema.attribute_names().position(|known| known == name);
    let mut features = schema.features.iter();
    match attribute.map(CellSource::Attribute) {
        Some(cell) => cell,
        None if name == schema.id => CellSource::Id,
        None if name == schema.time => CellSource::Time,
        None => features
            .position(|feature| feature.column() == name)
            .map_or(CellSource::Label, CellSource::Feature),
    }
}

/// The index that a class or a categorical value encodes, if it is one.
fn index(value: f32) -> Option<usize> {
    (value >= 0.0 && value.fract() == 0.0).then_some(value as usize)
}

/// Fills a row from a shared sample.
fn fill(
    row: &mut Row,
    cells: &[CellSource],
    schema: &Schema,
    edge: &str,
    samples: &SharedSamples,
    at: usize,
) {
    row.clear();
    for (number, cell) in cells.iter().enumerate() {
        match cell {
            // Ids need to be unique only at their edge.
            CellSource::Id => match &samples.ids {
                Some(ids) => row.set_written(number, format_args!("{edge}/{}", ids.get(at))),
                None => row.set_written(number, format_args!("{edge}/{}", samples.sequences[at])),
            },
            CellSource::Time => row.set_time(number, samples.times[at]),
            CellSource::Attribute(column) => {
                if let Some(Some(texts)) = samples.attributes.get(*column) {
                    row.set_text(number, texts.get(at));
                }
            }
            CellSource::Feature(column) => {
                let value = samples.features.get(*column).and_then(Option::as_ref);
                let value = value.map_or(f32::NAN, |values| values[at]);
                match &schema.features[*column] {
                    _ if value.is_nan() => {}
                    Feature::Numeric(_) => row.set_number(number, f64::from(value)),
                    Feature::Categorical(categorical) => {
                        let text = index(value).and_then(|value| categorical.values.get(value));
                        row.set_text(number, text.map_or("", String::as_str));
                    }
                }
            }
            CellSource::Label => {
                let label = samples.labels[at];
                let classes = schema.label.as_ref().map(|label| label.classes.as_slice());
                match classes
                    .zip(index(label))
                    .and_then(|(all, label)| all.get(label))
                {
                    Some(class) => row.set_text(number, class),
                    None => row.set_number(number, f64::from(label)),
                }
            }
        }
    }
}
