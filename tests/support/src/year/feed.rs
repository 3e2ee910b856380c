//! What the gateways send, and the books about it, by which all is recounted in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::kafka::{Broker, Message, PARTITIONS, Producer, now};
use crate::stream::{CLASSES, Chance, Endless, Sample};

use super::config::{BOOTSTRAP, EDGES, Pace, topic};

/// Number of samples after which the concept changes, so that new models are better.
const TURN: usize = 700;
/// Time between two bursts of samples.
const TICK: Duration = Duration::from_millis(250);

/// What an edge was sent.
pub struct Books {
    broker: Arc<Broker>,
    /// None until something is sent, and after the topics were deleted.
    producer: Option<Producer>,
    edge: &'static str,
    /// The edge's number.
    number: usize,
    stream: Endless,
    pub chance: Chance,
    /// Whether nothing is sent but by events.
    pub is_quiet: bool,
    /// Good samples by their ids.
    pub samples: BTreeMap<String, Sample>,
    /// Marks of bad messages, each of which must be a dead letter.
    pub bad: BTreeSet<String>,
    /// Number of messages to read from the topic of samples, bad ones among them.
    pub records: usize,
    /// Ids of samples that were deleted before they could be read.
    pub gone: BTreeSet<String>,
    /// Ids of samples that the cloud never gets.
    pub lost: BTreeSet<String>,
}

impl Books {
    fn new(broker: &Arc<Broker>, number: usize, seed: u64) -> Books {
        Books {
            broker: broker.clone(),
            producer: None,
            edge: EDGES[number],
            number,
            stream: Endless::new(seed, TURN, 0.03),
            chance: Chance::new(seed + 1),
            is_quiet: false,
            samples: BTreeMap::new(),
            bad: BTreeSet::new(),
            records: 0,
            gone: BTreeSet::new(),
            lost: BTreeSet::new(),
        }
    }

    /// The next samples of the edge's sites, as of now.
    pub fn fresh(&mut self, count: usize) -> Vec<Sample> {
        let mut samples = self.stream.samples(count);
        for sample in &mut samples {
            let site: usize = sample.site[1..].parse().expect("a number");
            // One of the two sites of this edge, in the same season.
            sample.site = format!("s{}", site / 3 * 3 + self.number);
            sample.id = format!("{}-{}", self.edge, sample.id);
            sample.time = now() / 1000;
        }
        samples
    }

    /// Sends samples and their labels.
    pub fn send(&mut self, samples: &[Sample]) {
        let messages = samples.iter().map(|sample| message(sample, json(sample)));
        self.send_as(samples, messages.collect());
    }

    /// Sends samples in messages of their own, and their labels.
    pub fn send_as(&mut self, samples: &[Sample], messages: Vec<Message>) {
        self.records += messages.len();
        self.produce("samples", &messages);
        self.produce("labels", &labels(samples));
        let entries = samples.iter().map(|it| (it.id.clone(), it.clone()));
        self.samples.extend(entries);
    }

    /// Sends samples and labels that nobody will read.
    pub fn send_doomed(&mut self, samples: &[Sample]) {
        let messages = samples.iter().map(|sample| message(sample, json(sample)));
        self.produce("samples", &messages.collect::<Vec<_>>());
        self.produce("labels", &labels(samples));
        self.gone.extend(samples.iter().map(|it| it.id.clone()));
    }

    /// A mark of the next bad message, which must be in its value and is its key.
    pub fn mark(&mut self) -> String {
        let mark = format!("poison-{}-{}.", self.edge, self.bad.len());
        self.bad.insert(mark.clone());
        mark
    }

    /// Sends a bad message to the topic of samples or of labels.
    pub fn send_bad(&mut self, what: &str, mark: String, value: Option<Vec<u8>>) {
        let partition = self.chance.below(PARTITIONS as u64) as i32;
        self.records += usize::from(what == "samples");
        self.produce(what, &[(partition, now(), mark, value)]);
    }

    /// Sends a message with a header, good or bad, to the topic of samples.
    pub fn send_with_header(&mut self, key: &str, header: &[u8], value: &[u8]) {
        let partition = self.chance.below(PARTITIONS as u64) as i32;
        self.records += 1;
        let topic = topic(self.edge, "samples");
        let content = (key.as_bytes(), header, value);
        self.broker
            .produce_with_header(&topic, (partition, now()), content);
    }

    /// Sends a bad message to the partition of a sample.
    pub fn send_bad_beside(
        &mut self,
        sample: &Sample,
        what: &str,
        mark: String,
        value: Option<Vec<u8>>,
    ) {
        self.records += usize::from(what == "samples");
        self.produce(what, &[(partition(sample), now(), mark, value)]);
    }

    /// Turns the concept of the stream round.
    pub fn turn_round(&mut self) {
        self.stream.turn_round();
    }

    fn produce(&mut self, what: &str, messages: &[Message]) {
        let producer = self.producer.get_or_insert_with(|| self.broker.producer());
        producer.send(&topic(self.edge, what), messages);
    }

    /// Sends the labels of samples.
    pub fn send_labels(&mut self, samples: &[Sample]) {
        self.produce("labels", &labels(samples));
    }

    /// Deletes the edge's topics of samples and labels.
    pub fn delete_topics(&mut self) {
        self.producer = None;
        for what in ["samples", "labels"] {
            self.broker.delete_topic(&topic(self.edge, what));
        }
    }

    /// Creates the edge's topics of samples and labels.
    pub fn create_topics(&self) {
        // A gateway's clock may be far ahead.
        let any = "message.timestamp.after.max.ms=9223372036854775807";
        for what in ["samples", "labels"] {
            self.broker
                .create_topic(&topic(self.edge, what), PARTITIONS, &[any]);
        }
    }
}

/// A sample without its label, as JSON.
pub fn json(sample: &Sample) -> Vec<u8> {
    let bare = Sample {
        label: None,
        ..sample.clone()
    };
    bare.json().into_bytes()
}

/// The message of a sample.
pub fn message(sample: &Sample, value: Vec<u8>) -> Message {
    (partition(sample), now(), sample.site.clone(), Some(value))
}

fn labels(samples: &[Sample]) -> Vec<Message> {
    let labelled = samples.iter().filter_map(|sample| {
        let class = CLASSES[sample.label?];
        let label = serde_json::json!({"id": sample.id, "label": class});
        Some(message(sample, label.to_string().into_bytes()))
    });
    labelled.collect()
}

fn partition(sample: &Sample) -> i32 {
    let site = sample.site.bytes().last();
    i32::from(site.expect("a site")) % PARTITIONS
}

/// The gateways of all edges, which send until they are stopped.
pub struct Feed {
    books: Arc<[Mutex<Books>; 3]>,
    pace: Pace,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Feed {
    /// Creates the topics, and sends the bootstraps.
    pub fn new(broker: &Arc<Broker>, pace: Pace, chance: &mut Chance) -> Feed {
        let books = [0, 1, 2].map(|number| {
            let mut books = Books::new(broker, number, chance.draw());
            books.create_topics();
            let first = books.fresh(BOOTSTRAP + 20);
            books.send(&first);
            Mutex::new(books)
        });
        Feed {
            books: Arc::new(books),
            pace,
            stop: Arc::default(),
            thread: None,
        }
    }

    /// Sends in bursts, on a thread of its own.
    pub fn start(&mut self) {
        let (books, stop, pace) = (self.books.clone(), self.stop.clone(), self.pace);
        let send = move || {
            while !stop.load(Ordering::Relaxed) {
                for books in books.iter() {
                    let mut books = books.lock().expect("the books");
                    if !books.is_quiet {
                        let count = 1 + books.chance.below(pace.burst) as usize;
                        let samples = books.fresh(count);
                        books.send(&samples);
                    }
                }
                std::thread::sleep(TICK);
            }
        };
        self.thread = Some(std::thread::spawn(send));
    }

    /// The books of an edge. Nothing is sent to it while they are held.
    pub fn of(&self, edge: &str) -> MutexGuard<'_, Books> {
        let number = EDGES.iter().position(|it| *it == edge).expect("an edge");
        self.books[number].lock().expect("the books")
    }

    /// Stops it.
    pub fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the gateways are done");
        }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
