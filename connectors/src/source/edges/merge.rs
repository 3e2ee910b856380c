//! What edges have sent as one stream of samples: who is believed, and who goes first.

use std::collections::BTreeMap;
use std::sync::Arc;

use ed25519_dalek::VerifyingKey;
use perennial_operators::flow::{EdgeProgress, EdgeReport, Effect, KnowledgeChange, ModelDonated};
use perennial_operators::{Batch, SharedSamples};

use super::queue::Queue;
use crate::format::Row;
use crate::link::{Changes, Donation, LinkError, open};
use crate::schema::{Feature, Schema};
use crate::source::decode::Decoder;

/// The edges that are listened to.
#[derive(Clone, Debug)]
pub struct Listening {
    /// The edges, and the keys by which they are known.
    pub edges: BTreeMap<String, VerifyingKey>,
    /// See [`schema_hash`](crate::link::schema_hash).
    pub schema: String,
    /// Whether every edge is waited for, so that the same changes give the same stream however they came.
    pub in_order: bool,
}

/// What edges have sent and was not taken in yet.
pub struct EdgeMerge {
    listening: Listening,
    queues: BTreeMap<Arc<str>, Queue>,
    schema: Schema,
    decoder: Decoder,
    row: Row,
    /// What each cell of a row is filled from.
    cells: Vec<Cell>,
    effects: Vec<Effect>,
    moved: BTreeMap<Arc<str>, EdgeProgress>,
}

/// What a column of the schema is filled from.
#[derive(Clone, Copy)]
enum Cell {
    Id,
    Time,
    Attribute(usize),
    Feature(usize),
    Label,
}

/// A sample that makes no row.
#[derive(Debug)]
pub struct BadSample {
    /// Of which edge.
    pub edge: Arc<str>,
    /// Its sequence number there.
    pub sequence: u64,
    /// Why.
    pub reason: String,
}

impl EdgeMerge {
    /// What goes on where `progress` says, after so many samples.
    pub fn new(
        listening: Listening,
        schema: &Schema,
        duplicates_within: usize,
        samples: u64,
        progress: &BTreeMap<String, EdgeProgress>,
    ) -> EdgeMerge {
        let mut decoder = Decoder::new(schema, true, duplicates_within);
        decoder.continue_from(samples);
        let cells = decoder.columns().iter().map(|name| cell(schema, name));
        let cells: Vec<Cell> = cells.collect();
        let queue = |edge: &String| {
            let progress = progress.get(edge).copied();
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

    /// What a message under a key says.
    ///
    /// # Errors
    /// It cannot be trusted or understood.
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
                said: changes.edge,
            });
        }
        if changes.schema != self.listening.schema {
            return Err(LinkError::Schema);
        }
        Ok(changes)
    }

    /// Adds a message of so many bytes, which stands at this place.
    ///
    /// # Errors
    /// It is older than what was taken in, or its parts do not fit together.
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

    /// Takes the next sample in, if it can be told which that is.
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

    /// The edge whose sample goes first, if that can be told.
    fn earliest(&mut self) -> Option<Arc<str>> {
        let mut first: Option<(i64, &Arc<str>)> = None;
        for (edge, queue) in &mut self.queues {
            let (reported, donated) = queue.settle();
            let reported = reported.into_iter().map(|statistics| {
                Effect::Change(KnowledgeChange::EdgeReport(EdgeReport {
                    edge: edge.clone(),
                    statistics,
                }))
            });
            self.effects.extend(reported);
            let donated = donated
                .into_iter()
                .flat_map(|donation| taken(edge, donation));
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

    /// The samples that were taken in since the last call.
    pub fn take(&mut self) -> Batch {
        self.decoder.take()
    }

    /// What else was taken in since the last call: how edges did, their models, and how far each was taken in of which
    /// something was.
    pub fn close(&mut self) -> (Vec<Effect>, BTreeMap<Arc<str>, EdgeProgress>) {
        (
            std::mem::take(&mut self.effects),
            std::mem::take(&mut self.moved),
        )
    }

    /// Whether anything was taken in since then.
    pub(super) fn has_moved(&self) -> bool {
        !self.moved.is_empty()
    }

    /// The offset of the first message of a partition that waits: a restart has to read from there on.
    pub fn first_offset(&self, partition: i32) -> Option<i64> {
        let queues = self.queues.values();
        let waits = queues.filter_map(|queue| queue.first_offset(partition));
        waits.min()
    }

    /// The bytes of what waits.
    pub(super) fn bytes(&self) -> usize {
        self.queues.values().map(Queue::bytes).sum()
    }

    /// The first edge of which nothing waits.
    pub(super) fn silent(&self) -> Option<&str> {
        let mut queues = self.queues.iter();
        let silent = queues.find(|(_, queue)| queue.time().is_none());
        silent.map(|(edge, _)| &**edge)
    }

    /// How many features a sample has.
    pub(super) fn features(&self) -> usize {
        self.schema.features.len()
    }
}

/// What becomes of an edge's model.
fn taken(edge: &Arc<str>, donation: Donation) -> [Effect; 2] {
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

/// What a column is filled from. One that has several parts is an attribute first: its text says all the others need.
fn cell(schema: &Schema, name: &str) -> Cell {
    let attribute = schema.attribute_names().position(|known| known == name);
    let mut features = schema.features.iter();
    match attribute.map(Cell::Attribute) {
        Some(cell) => cell,
        None if name == schema.id => Cell::Id,
        None if name == schema.time => Cell::Time,
        None => features
            .position(|feature| feature.column() == name)
            .map_or(Cell::Label, Cell::Feature),
    }
}

/// The number of a class, or of a value of a categorical feature, if it is one.
fn place(value: f32) -> Option<usize> {
    (value >= 0.0 && value.fract() == 0.0).then_some(value as usize)
}

/// Fills a row from a sample that was shared.
fn fill(
    row: &mut Row,
    cells: &[Cell],
    schema: &Schema,
    edge: &str,
    samples: &SharedSamples,
    at: usize,
) {
    row.clear();
    for (number, cell) in cells.iter().enumerate() {
        match cell {
            // Ids need only be unique at their edge.
            Cell::Id => match &samples.ids {
                Some(ids) => row.set_written(number, format_args!("{edge}/{}", ids.get(at))),
                None => row.set_written(number, format_args!("{edge}/{}", samples.sequences[at])),
            },
            Cell::Time => row.set_time(number, samples.times[at]),
            Cell::Attribute(column) => {
                if let Some(Some(texts)) = samples.attributes.get(*column) {
                    row.set_text(number, texts.get(at));
                }
            }
            Cell::Feature(column) => {
                let value = samples.features.get(*column).and_then(Option::as_ref);
                let value = value.map_or(f32::NAN, |values| values[at]);
                match &schema.features[*column] {
                    _ if value.is_nan() => {}
                    Feature::Numeric(_) => row.set_number(number, f64::from(value)),
                    Feature::Categorical(categorical) => {
                        let text = place(value).and_then(|value| categorical.values.get(value));
                        row.set_text(number, text.map_or("", String::as_str));
                    }
                }
            }
            Cell::Label => {
                let label = samples.labels[at];
                let classes = schema.label.as_ref().map(|label| label.classes.as_slice());
                match classes
                    .zip(place(label))
                    .and_then(|(all, label)| all.get(label))
                {
                    Some(class) => row.set_text(number, class),
                    None => row.set_number(number, f64::from(label)),
                }
            }
        }
    }
}
