//! Changes that the topic does not take, on a real broker.

use ed25519_dalek::SigningKey;
use perennial_connectors::kafka::KafkaConfig;
use perennial_connectors::link::{Changes, Sender, open};
use perennial_operators::{SharedSamples, SharedTexts, Texts};

use support::kafka::{Broker, PARTITIONS};
use support::stream::Chance;

use super::{Weather, World};

/// Samples that do not compress.
fn noise(rows: usize) -> SharedSamples {
    let mut chance = Chance::new(31);
    let mut ids = Texts::default();
    (0..rows).for_each(|_| ids.push(&format!("{:016x}", chance.draw())));
    let text = |text: &str| {
        Some(SharedTexts {
            values: vec![text.into()],
            codes: vec![0; rows],
        })
    };
    let mut column = || Some((0..rows).map(|_| chance.share() as f32).collect());
    SharedSamples {
        sequences: (0..rows as u64).collect(),
        times: (0..rows as i64).collect(),
        ids: Some(ids),
        attributes: vec![text("hall"), text("dry")],
        features: vec![column(), column(), column(), None],
        labels: vec![1.0; rows],
    }
}

/// What an edge sends of `rows` such samples, and of 3 others behind them, to a topic with these
/// settings: the samples that arrived, and those that were shed.
fn send(topic: &str, settings: &[&str], rows: usize) -> (u64, u64) {
    let broker = Broker::shared();
    broker.create_topic(topic, PARTITIONS, settings);
    let kafka = serde_json::json!({"brokers": broker.address});
    let kafka: KafkaConfig = serde_json::from_value(kafka).expect("a config");
    let key = || SigningKey::from_bytes(&[7; 32]);
    let sender = Sender::open(&kafka, topic, key(), None, &|| false);
    let sender = sender.expect("a sender");

    let mut world = World::new(6, 1, Weather::Calm, "");
    let edge = &mut world.edges[0];
    edge.share(vec![noise(rows)]);
    edge.work(3, 3);
    assert!(edge.send_to(&sender).expect("no error"));
    edge.settle();
    edge.assert_sound();
    let outbox = edge.outbox();
    assert_eq!((outbox.waiting, outbox.samples), (0, 0));
    let arrived = broker.read(topic).into_iter().map(|message| {
        let changes: Changes =
            open(&message.value, &key().verifying_key(), "edge-0").expect("a message");
        let rows = changes.changes.iter().map(|(_, change)| change.rows());
        rows.sum::<u64>()
    });
    (arrived.sum(), outbox.shed_samples)
}

#[test]
fn changes_without_room_in_the_topic_hold_up_nothing() {
    // A change is cut by rows, so that a topic with Kafka's own limit of 1 MB takes it.
    let usual = ["max.message.bytes=1048588"];
    assert_eq!(send("large-rows", &usual, 60_000), (60_003, 0));
    // What a topic does not take is shed.
    let (arrived, shed) = send("large-narrow", &["max.message.bytes=20000"], 2000);
    assert_eq!((arrived, shed), (3, 2000));
}
