//! Messages that wait for their models, by edge. What the edge has sent behind such a message waits
//! with it, since an edge's changes have an order; the other edges go on.

use std::collections::{BTreeMap, VecDeque};
use std::ops::{AddAssign, SubAssign};

use super::fetch::{FetchJob, ModelFetcher, fetch_models};
use super::rights::SignedChanges;
use crate::link::ModelStore;

/// Offset of a message that waits here, and that the topic has no longer.
pub(super) const GONE: i64 = -1;

/// Bytes of messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct MessageSize {
    /// Bytes of the messages themselves.
    pub own: usize,
    /// Bytes of their models.
    pub models: usize,
}

impl MessageSize {
    pub(super) fn total(self) -> usize {
        self.own.saturating_add(self.models)
    }
}

impl AddAssign for MessageSize {
    fn add_assign(&mut self, other: MessageSize) {
        self.own += other.own;
        // What a message says of its models may be anything.
        self.models = self.models.saturating_add(other.models);
    }
}

impl SubAssign for MessageSize {
    fn sub_assign(&mut self, other: MessageSize) {
        self.own -= other.own;
        self.models = self.models.saturating_sub(other.models);
    }
}

/// Where a message stands in the topic, the edge of its key, its size and its first bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct MessagePlace {
    pub edge: String,
    pub partition: i32,
    pub offset: i64,
    pub size: MessageSize,
    pub excerpt: Vec<u8>,
}

/// A message that is trusted and has its models.
pub(super) struct ReadyMessage {
    pub place: MessagePlace,
    pub message: SignedChanges,
}

/// A message, or the place that its turn has while its models are fetched.
struct ParkedMessage {
    ticket: u64,
    place: MessagePlace,
    content: Content,
}

/// What there is of a parked message.
enum Content {
    /// Its models are still to be fetched.
    Bare(Box<FetchJob>),
    /// They are being fetched.
    Fetching,
    /// All that can be had.
    Whole(Box<SignedChanges>),
}

/// Messages that wait, by edge.
pub(super) struct ParkedMessages {
    edges: BTreeMap<String, VecDeque<ParkedMessage>>,
    fetcher: Option<ModelFetcher>,
    /// Size of all messages, with the models that are there or being fetched.
    size: MessageSize,
    /// Number of messages whose models are being fetched.
    fetching: usize,
    /// Number of messages so far.
    tickets: u64,
}

impl ParkedMessages {
    /// Fetches models from `store`.
    pub(super) fn new(store: Option<ModelStore>) -> ParkedMessages {
        ParkedMessages {
            edges: BTreeMap::new(),
            fetcher: store.map(ModelFetcher::start),
            size: MessageSize::default(),
            fetching: 0,
            tickets: 0,
        }
    }

    /// Adds a message behind the others of its edge.
    pub(super) fn add(&mut self, mut place: MessagePlace, message: SignedChanges) {
        self.tickets += 1;
        let edge = message.changes.edge.clone();
        let mut job = FetchJob {
            ticket: self.tickets,
            message,
        };
        let content = if self.fetcher.is_some() && job.message.changes.has_stored_models() {
            Content::Bare(Box::new(job))
        } else {
            // Without a store, models that are in one are refused.
            fetch_models(None, &mut job, |_| true);
            place.size.models = job.message.changes.model_bytes();
            Content::Whole(Box::new(job.message))
        };
        self.size += place.size;
        let queue = self.edges.entry(edge).or_default();
        queue.push_back(ParkedMessage {
            ticket: self.tickets,
            place,
            content,
        });
    }

    /// Begins to fetch the models of the first message of each edge, as long as all messages stay
    /// within `most` bytes with those `held` elsewhere. The models of the edge `first`, for which
    /// the held ones wait, are fetched in any case, and so are those of a message that is alone.
    pub(super) fn begin_fetching(&mut self, most: usize, held: MessageSize, first: Option<&str>) {
        let Some(fetcher) = &self.fetcher else { return };
        for (edge, queue) in &mut self.edges {
            let Some(front) = queue.front_mut() else {
                continue;
            };
            let Content::Bare(job) = &front.content else {
                continue;
            };
            let models = MessageSize {
                own: 0,
                models: job.message.changes.model_bytes(),
            };
            let mut all = self.size;
            all += held;
            all += models;
            let is_alone = self.fetching == 0 && held == MessageSize::default();
            if all.total() > most && !is_alone && first != Some(edge.as_str()) {
                continue;
            }
            front.place.size += models;
            self.size += models;
            self.fetching += 1;
            if let Content::Bare(job) = std::mem::replace(&mut front.content, Content::Fetching) {
                fetcher.fetch(*job);
            }
        }
    }

    /// Takes a message that waits for nothing any more, and for which no earlier one of its edge
    /// waits.
    pub(super) fn take_ready(&mut self) -> Option<ReadyMessage> {
        while let Some(done) = self.fetcher.as_ref().and_then(ModelFetcher::take_done) {
            self.fetching -= 1;
            let queue = self.edges.get_mut(&done.message.changes.edge);
            let mut parked = queue.into_iter().flatten();
            if let Some(parked) = parked.find(|parked| parked.ticket == done.ticket) {
                self.size -= parked.place.size;
                parked.place.size.models = done.message.changes.model_bytes();
                self.size += parked.place.size;
                parked.content = Content::Whole(Box::new(done.message));
            }
        }
        let is_ready = |queue: &VecDeque<ParkedMessage>| {
            let first = queue.front();
            first.is_some_and(|first| matches!(first.content, Content::Whole(_)))
        };
        let (edge, queue) = self.edges.iter_mut().find(|(_, queue)| is_ready(queue))?;
        let (edge, first) = (edge.clone(), queue.pop_front()?);
        if queue.is_empty() {
            self.edges.remove(&edge);
        }
        self.size -= first.place.size;
        let Content::Whole(message) = first.content else {
            return None;
        };
        Some(ReadyMessage {
            place: first.place,
            message: *message,
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.edges.is_empty()
    }

    /// Size of all messages that wait.
    pub(super) fn size(&self) -> MessageSize {
        self.size
    }

    /// Whether models are being fetched.
    pub(super) fn is_fetching(&self) -> bool {
        self.fetching > 0
    }

    /// Whether a message of an edge waits.
    pub(super) fn has(&self, edge: &str) -> bool {
        self.edges.contains_key(edge)
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

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use ed25519_dalek::SigningKey;
    use perennial_operators::flow::{ModelTrained, Remodeling};
    use perennial_operators::{ModelId, TaskDefinition, TaskId};

    use super::*;
    use crate::link::{Change, Changes, Donation, PublishedModel, StoreConfig};

    /// Bytes of a model.
    const MODEL: usize = 1000;
    /// Bytes of a message.
    const OWN: usize = 10;

    /// A message of an edge with a model that is in the store.
    fn message(store: &ModelStore, edge: &str) -> SignedChanges {
        let model = ModelId {
            task: TaskId::BASE,
            version: 1,
        };
        let onnx = vec![7; MODEL];
        let trained = ModelTrained {
            model,
            hash: blake3::hash(&onnx).to_hex().to_string(),
            bytes: MODEL as u64,
            samples: 1,
            latest: 0,
            remodeling: Remodeling::Scratch,
        };
        let mut model = PublishedModel {
            model,
            trained,
            evaluated: None,
            onnx,
            is_stored: false,
        };
        store.store_large(&mut model).unwrap();
        assert!(model.is_stored);
        let path = vec![TaskDefinition::base()];
        let change = Change {
            models: vec![Donation { path, model }],
            ..Change::default()
        };
        let changes = Changes {
            edge: edge.to_string(),
            since: 0,
            schema: String::new(),
            sent: 0,
            shed: 0,
            changes: vec![(0, change)],
            lineage: None,
        };
        let signer = SigningKey::from_bytes(&[1; 32]).verifying_key();
        SignedChanges {
            changes,
            refused: Vec::new(),
            signer,
        }
    }

    fn wait_for_ready(parked: &mut ParkedMessages) -> ReadyMessage {
        let began = Instant::now();
        loop {
            if let Some(ready) = parked.take_ready() {
                return ready;
            }
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "nothing is ready"
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn models_are_fetched_as_long_as_there_is_room_for_them() {
        let folder = tempfile::tempdir().unwrap();
        let config = StoreConfig {
            url: format!("file://{}", folder.path().display()),
            above: 10,
            options: BTreeMap::default(),
        };
        let store = ModelStore::open(&config).unwrap();
        let messages = ["a", "b", "c"].map(|edge| message(&store, edge));
        let mut parked = ParkedMessages::new(Some(store));
        for message in messages {
            let size = MessageSize {
                own: OWN,
                models: 0,
            };
            let place = MessagePlace {
                size,
                ..MessagePlace::default()
            };
            parked.add(place, message);
        }
        let size = |own, models| MessageSize { own, models };
        assert_eq!(parked.size(), size(3 * OWN, 0));
        // There is room for one of them.
        let most = 3 * OWN + MODEL;
        parked.begin_fetching(most, MessageSize::default(), None);
        assert_eq!(parked.size(), size(3 * OWN, MODEL));
        let first = wait_for_ready(&mut parked);
        assert_eq!(first.message.changes.edge, "a");
        assert_eq!(first.place.size, size(OWN, MODEL));
        assert_eq!(parked.size(), size(2 * OWN, 0));
        // It is held, and waits for the last edge.
        parked.begin_fetching(most, first.place.size, None);
        assert!(!parked.is_fetching() && parked.take_ready().is_none());
        parked.begin_fetching(most, first.place.size, Some("c"));
        assert_eq!(wait_for_ready(&mut parked).message.changes.edge, "c");
        // A model that no room is enough for goes alone.
        parked.begin_fetching(0, MessageSize::default(), None);
        let last = wait_for_ready(&mut parked);
        assert_eq!(last.message.changes.edge, "b");
        assert_eq!(parked.size(), MessageSize::default());
        let models = &last.message.changes.changes[0].1.models;
        assert_eq!(models[0].model.onnx.len(), MODEL);
    }
}
