//! The cloud's intake of what edges share: one edge's trouble is that edge's alone.

mod clocks;
mod rights;
mod store;
mod unknown;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ed25519_dalek::SigningKey;
use perennial_connectors::kafka::{Health, KafkaConfig};
use perennial_connectors::link::{Change, Changes, ModelStore, seal};
use perennial_connectors::source::OnGone;
use perennial_connectors::source::edges::{
    EdgeRights, EdgeSource, EdgesOptions, EdgesResume, KnownEdges,
};
use perennial_connectors::source::kafka::Limit;
use perennial_operators::SITE;
use perennial_operators::flow::{DeadLetter, Effect};

use support::kafka::{Broker, PARTITIONS};
use support::topics::START;

/// Time limit of each wait.
const PATIENCE: Duration = Duration::from_secs(60);

/// A topic of changes, and the cloud's reader of it.
struct Intake {
    broker: Arc<Broker>,
    topic: String,
    folder: tempfile::TempDir,
    source: Option<EdgeSource>,
    /// Samples read so far of each site.
    sites: BTreeMap<String, usize>,
    dead_letters: Vec<DeadLetter>,
    /// Number of models taken in so far.
    models: usize,
    /// Edges that the reader is to take into force.
    reload: Arc<Mutex<Option<BTreeMap<String, EdgeRights>>>>,
    /// Where a restart resumes.
    resume: EdgesResume,
    on_gone: OnGone,
}

/// The rights of an edge that may share everything, with the key of its name.
fn rights(edge: &str) -> EdgeRights {
    EdgeRights::all(key(edge).verifying_key())
}

/// The key of an edge.
fn key(edge: &str) -> SigningKey {
    let mut seed = [3; 32];
    seed[..edge.len()].copy_from_slice(edge.as_bytes());
    SigningKey::from_bytes(&seed)
}

impl Intake {
    fn new(topic: &str) -> Intake {
        let broker = Broker::shared();
        broker.create_topic(topic, PARTITIONS, &[]);
        Intake {
            broker,
            topic: topic.to_string(),
            folder: tempfile::tempdir().expect("a folder"),
            source: None,
            sites: BTreeMap::new(),
            dead_letters: Vec::new(),
            models: 0,
            reload: Arc::default(),
            resume: EdgesResume::default(),
            on_gone: OnGone::Fail,
        }
    }

    /// Takes the rights of an edge into force.
    fn reload(&self, edge: &str, rights: EdgeRights) {
        self.reload_all(BTreeMap::from([(edge.to_string(), rights)]));
    }

    /// Takes the rights of all edges into force.
    fn reload_all(&self, edges: BTreeMap<String, EdgeRights>) {
        *self.reload.lock().expect("edges") = Some(edges);
    }

    /// Opens the reader, in `live` mode, where the one before has ended.
    fn open(&mut self, edges: &[&str], store: Option<ModelStore>) {
        let settings =
            crate::fleet::simulation::settings(self.folder.path(), "any", "samples: raw", "");
        let reload = self.reload.clone();
        let kafka = serde_json::json!({"brokers": self.broker.address});
        let kafka: KafkaConfig = serde_json::from_value(kafka).expect("a config");
        let options = EdgesOptions {
            kafka: &kafka,
            group: "intake",
            topic: &self.topic,
            listening: KnownEdges {
                edges: edges
                    .iter()
                    .map(|edge| (edge.to_string(), rights(edge)))
                    .collect(),
                schema: perennial::link::common::schema(&settings),
                in_order: false,
            },
            reload: Box::new(move || reload.lock().expect("edges").take()),
            store,
            duplicates_within: 1000,
            levels: &settings.levels,
            stop_at_end: false,
            on_gone: self.on_gone,
            health: Health::default(),
            stop: Arc::new(AtomicBool::new(false)),
        };
        let source = EdgeSource::open(options, &settings.schema, &self.resume);
        self.source = Some(source.expect("a source"));
    }

    /// A message of an edge with changes from the number `first` on.
    fn message(&self, edge: &str, first: u64, changes: Vec<Change>) -> Changes {
        let settings =
            crate::fleet::simulation::settings(self.folder.path(), "any", "samples: raw", "");
        Changes {
            edge: edge.to_string(),
            since: 1,
            schema: perennial::link::common::schema(&settings),
            sent: 1,
            shed: 0,
            changes: (first..).zip(changes).collect(),
            lineage: None,
        }
    }

    /// Produces a message under the name of its edge, signed with the key of `signer`.
    fn send(&self, message: &Changes, signer: &str) {
        let sealed = seal(message, &key(signer)).expect("a message");
        let message = (0, START, message.edge.clone(), Some(sealed));
        self.broker.produce(&self.topic, &[message]);
    }

    /// Reads what there is until `holds` is true.
    #[track_caller]
    fn read_until(&mut self, what: &str, holds: impl Fn(&Intake) -> bool) {
        let began = Instant::now();
        while !holds(self) {
            assert!(began.elapsed() < PATIENCE, "waited in vain: {what}");
            self.read();
        }
    }

    /// Reads what comes within a short while.
    fn read(&mut self) {
        let source = self.source.as_mut().expect("it is open");
        let limit = Limit {
            records: 1000,
            bytes: usize::MAX,
            until: Instant::now() + Duration::from_millis(100),
        };
        let read = source.read(limit).expect("no failure");
        for row in 0..read.batch.len() {
            let site = read.batch.attribute(SITE, row).to_string();
            *self.sites.entry(site).or_default() += 1;
        }
        self.dead_letters.extend(read.dead_letters);
        let closed = source.close_epoch();
        let effects = closed.effects.iter();
        let models = effects.filter(|effect| matches!(effect, Effect::Model(..)));
        self.models += models.count();
        self.resume.records = read.position;
        self.resume.samples += read.batch.len() as u64;
        self.resume.seen.extend(closed.seen.ids);
        self.resume.offsets.extend(closed.offsets);
        self.resume.topics.extend(closed.topics);
        self.resume.refused.extend(closed.refused.added);
        let passed = closed.refused.passed;
        self.resume
            .refused
            .retain(|message| !passed.contains(message));
        let edges = closed.edges.into_iter();
        self.resume
            .edges
            .extend(edges.map(|(edge, progress)| (edge.to_string(), progress)));
        let histories = closed.histories.into_iter();
        self.resume
            .histories
            .extend(histories.map(|(edge, history)| (edge.to_string(), history)));
    }

    /// Where a restart resumes in the partition to which everything is sent.
    fn resumed(&self) -> Option<i64> {
        self.resume.offsets.values().copied().max()
    }

    /// Reasons of the dead letters.
    fn reasons(&self) -> Vec<&str> {
        let letters = self.dead_letters.iter();
        letters.map(|letter| letter.reason.as_str()).collect()
    }

    fn samples(&self, site: &str) -> usize {
        self.sites.get(site).copied().unwrap_or(0)
    }
}
