//! Messages that wait for their models, by edge. What the edge has sent behind such a message waits
//! with it, since an edge's changes have an order; the other edges go on.

use std::collections::{BTreeMap, VecDeque};

use super::fetch::{FetchJob, ModelFetcher, fetch_models};
use super::rights::SignedChanges;
use crate::link::{LinkError, ModelStore};

/// Offset of a message that waits here, and that the topic has no longer.
pub(super) const GONE: i64 = -1;

/// Where a message stands in the topic, the edge of its key, and its first bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct MessagePlace {
    pub edge: String,
    pub partition: i32,
    pub offset: i64,
    pub size: usize,
    pub excerpt: Vec<u8>,
}

/// A message that is trusted and has its models.
pub(super) struct ReadyMessage {
    pub place: MessagePlace,
    pub message: SignedChanges,
    /// Why models of it were refused.
    pub refused: Vec<LinkError>,
}

/// A message, or the place that its turn has while its models are fetched.
struct ParkedMessage {
    ticket: u64,
    place: MessagePlace,
    content: Option<(SignedChanges, Vec<LinkError>)>,
}

/// Messages that wait, by edge.
pub(super) struct ParkedMessages {
    edges: BTreeMap<String, VecDeque<ParkedMessage>>,
    fetcher: Option<ModelFetcher>,
    bytes: usize,
    /// Number of messages so far.
    tickets: u64,
}

impl ParkedMessages {
    /// Fetches models from `store`.
    pub(super) fn new(store: Option<ModelStore>) -> ParkedMessages {
        ParkedMessages {
            edges: BTreeMap::new(),
            fetcher: store.map(ModelFetcher::start),
            bytes: 0,
            tickets: 0,
        }
    }

    /// Adds a message behind the others of its edge.
    pub(super) fn add(&mut self, place: MessagePlace, message: SignedChanges) {
        self.tickets += 1;
        let edge = message.changes.edge.clone();
        let mut job = FetchJob {
            ticket: self.tickets,
            message,
            refused: Vec::new(),
        };
        let content = match &self.fetcher {
            Some(fetcher) if job.message.changes.has_stored_models() => {
                fetcher.fetch(job);
                None
            }
            _ => {
                // Without a store, models that are in one are refused.
                fetch_models(None, &mut job, |_| true);
                Some((job.message, job.refused))
            }
        };
        self.bytes += place.size;
        let queue = self.edges.entry(edge).or_default();
        queue.push_back(ParkedMessage {
            ticket: self.tickets,
            place,
            content,
        });
    }

    /// Takes a message that waits for nothing any more, and for which no earlier one of its edge
    /// waits.
    pub(super) fn take_ready(&mut self) -> Option<ReadyMessage> {
        while let Some(done) = self.fetcher.as_ref().and_then(ModelFetcher::take_done) {
            let queue = self.edges.get_mut(&done.message.changes.edge);
            let mut parked = queue.into_iter().flatten();
            if let Some(parked) = parked.find(|parked| parked.ticket == done.ticket) {
                parked.content = Some((done.message, done.refused));
            }
        }
        let is_ready = |queue: &VecDeque<ParkedMessage>| {
            queue.front().is_some_and(|first| first.content.is_some())
        };
        let (edge, queue) = self.edges.iter_mut().find(|(_, queue)| is_ready(queue))?;
        let (edge, first) = (edge.clone(), queue.pop_front()?);
        if queue.is_empty() {
            self.edges.remove(&edge);
        }
        self.bytes -= first.place.size;
        let (message, refused) = first.content?;
        Some(ReadyMessage {
            place: first.place,
            message,
            refused,
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.edges.is_empty()
    }

    /// Bytes of all messages that wait.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Offset of the first waiting message of a partition.
    pub(super) fn first_offset(&self, partition: i32) -> Option<i64> {
        let messages = self.edges.values().flatten();
        let of = messages.filter(|parked| parked.place.partition == partition);
        let offsets = of.map(|parked| parked.place.offset);
        offsets.filter(|offset| *offset != GONE).min()
    }

    /// Notes that the topic has none of the waiting messages of a partition any more.
    pub(super) fn forget_offsets(&mut self, partition: i32) {
        let places = self.edges.values_mut().flatten();
        let places = places.map(|parked| &mut parked.place);
        for place in places.filter(|place| place.partition == partition) {
            place.offset = GONE;
        }
    }
}
