//! What an edge downloads where models are in an object store: those that it takes, and no others.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use ed25519_dalek::SigningKey;
use perennial_connectors::kafka::{Health, KafkaConfig};
use perennial_connectors::link::{
    ModelStore, Published, PublishedModel, Publisher, StoreConfig, Subscriber, Subscription, now,
};
use perennial_operators::flow::Revision;
use perennial_operators::{ModelId, TaskDefinition};

use support::forge::trained;
use support::kafka::Broker;

/// Time limit of each wait.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of each model.
const MODEL: usize = 5000;
const SCHEMA: &str = "schema";

fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

/// A task of a site; the base task without one.
fn path(site: Option<&str>) -> Vec<TaskDefinition> {
    let base = TaskDefinition::base();
    let own = site.map(|site| base.child(&[("site".to_string(), site.to_string())]));
    [base].into_iter().chain(own).collect()
}

/// The model number `number` of a task, of which each has other bytes.
fn published(site: Option<&str>, donor: Option<&str>, number: u8) -> Published {
    let path = path(site);
    let model = ModelId {
        task: path[path.len() - 1].task,
        version: u32::from(number),
    };
    let onnx = vec![number; MODEL];
    let trained = trained(model, &onnx);
    Published {
        schema: SCHEMA.to_string(),
        revision: Revision {
            since: 1,
            number: u64::from(number),
        },
        sent: now(),
        path,
        donor: donor.map(ToString::to_string),
        audience: Vec::new(),
        deviations: None,
        model: Some(PublishedModel {
            model,
            trained,
            evaluated: None,
            onnx,
            is_stored: false,
        }),
    }
}

/// A fleet's knowledge, with a store of models.
struct World {
    kafka: KafkaConfig,
    folder: tempfile::TempDir,
}

impl World {
    fn store(&self) -> ModelStore {
        let config = StoreConfig {
            url: format!("file://{}", self.folder.path().display()),
            // No model is so large that its message could not have it.
            above: 1 << 20,
            options: BTreeMap::new(),
        };
        ModelStore::open(&config).expect("a store")
    }

    /// The numbers of the models in the store.
    fn stored(&self) -> BTreeSet<u8> {
        let files = std::fs::read_dir(self.folder.path()).expect("a folder");
        let files = files.map(|file| std::fs::read(file.expect("a file").path()).expect("a file"));
        files.map(|bytes| bytes[0]).collect()
    }

    /// What the edge "paris" takes: the numbers of the models that arrive, and of how many of them
    /// it has fetched the bytes.
    fn take(&self, subscribed: &[&str], donations: bool, expected: usize) -> (BTreeSet<u8>, u64) {
        let following = Subscription {
            topic: "downloads".to_string(),
            key: key().verifying_key(),
            schema: SCHEMA.to_string(),
            subscribed: subscribed.iter().map(ToString::to_string).collect(),
            edge: "paris".to_string(),
            takes_donations: donations,
            known: BTreeMap::new(),
        };
        let store = Some(self.store());
        let subscriber = Subscriber::open(&self.kafka, following, store, &|| false);
        let mut subscriber = subscriber.expect("a subscriber");
        let (mut taken, began) = (BTreeSet::new(), Instant::now());
        while taken.len() < expected {
            assert!(began.elapsed() < PATIENCE, "{taken:?}");
            let published = subscriber.next(Duration::from_millis(100));
            taken.extend(published.map(|published| published.model.expect("a model").onnx[0]));
        }
        // Nothing more comes.
        let more = subscriber.next(Duration::from_millis(500));
        assert!(more.is_none(), "{more:?}");
        let fetched = subscriber.fetched();
        assert_eq!(fetched.bytes, fetched.models * MODEL as u64);
        (taken, fetched.models)
    }
}

#[test]
fn edges_download_the_models_that_they_take() {
    let broker = Broker::shared();
    let kafka = serde_json::json!({"brokers": broker.address});
    let world = World {
        kafka: serde_json::from_value(kafka).expect("a config"),
        folder: tempfile::tempdir().expect("a folder"),
    };
    let (health, store) = (Health::default(), Some(world.store()));
    let publisher = Publisher::open(&world.kafka, "downloads", key(), store, &health);
    let publisher = publisher.expect("a publisher");
    for mut message in [
        published(None, None, 1),
        published(Some("paris"), None, 2),
        published(Some("rome"), None, 3),
        published(Some("rome"), Some("rome"), 4),
        published(Some("paris"), Some("paris"), 5),
        published(Some("paris"), None, 6),
    ] {
        let is_sent = publisher.publish(&mut message, &|| false);
        assert!(is_sent.expect("no error"));
    }
    // That of the base task is for all, and in its message.
    assert_eq!(world.stored(), (2..=6).collect());
    let all = |numbers: &[u8]| numbers.iter().copied().collect::<BTreeSet<u8>>();
    // Neither its own model, nor one that a later one has replaced.
    assert_eq!(world.take(&[], true, 4), (all(&[1, 3, 4, 6]), 3));
    // Nor models of other tasks and other edges that it does not take.
    assert_eq!(world.take(&["site=paris"], false, 2), (all(&[1, 6]), 1));
}
