//! Models too large for a message are reported and hold up nothing else.

use ed25519_dalek::SigningKey;
use perennial_connectors::kafka::{Health, KafkaConfig};
use perennial_connectors::link::{
    Change, Changes, Donation, LARGEST_CONTENT, LinkError, Published, PublishedModel, Publisher,
    Sender, open,
};
use perennial_operators::flow::{ModelTrained, Remodeling, Revision};
use perennial_operators::{Epoch, ModelId, SharedSamples, TaskDefinition, TaskId};

use support::kafka::{Broker, PARTITIONS};
use support::stream::Chance;

/// The largest message that the topics accept, bytes.
const LARGEST: usize = 20_000;

/// A model of `bytes` incompressible bytes.
fn model(bytes: usize) -> PublishedModel {
    let mut chance = Chance::new(71);
    let onnx: Vec<u8> = (0..bytes).map(|_| chance.below(256) as u8).collect();
    let model = ModelId {
        task: TaskId::BASE,
        version: 1,
    };
    PublishedModel {
        model,
        trained: ModelTrained {
            model,
            hash: blake3::hash(&onnx).to_hex().to_string(),
            bytes: bytes as u64,
            samples: 1,
            latest: 0,
            remodeling: Remodeling::Scratch,
        },
        evaluated: None,
        onnx,
        is_stored: false,
    }
}

fn published(bytes: usize) -> Published {
    Published {
        schema: String::new(),
        revision: Revision {
            since: 1,
            number: 1,
        },
        sent: 0,
        path: vec![TaskDefinition::base()],
        donor: None,
        audience: Vec::new(),
        deviations: None,
        model: Some(model(bytes)),
    }
}

#[test]
fn oversized_models_are_reported_and_the_rest_goes_on() {
    let broker = Broker::shared();
    let kafka = serde_json::json!({"brokers": broker.address});
    let kafka: KafkaConfig = serde_json::from_value(kafka).expect("a config");
    let key = || SigningKey::from_bytes(&[7; 32]);
    for topic in ["large-up", "large-down"] {
        let largest = format!("max.message.bytes={LARGEST}");
        broker.create_topic(topic, PARTITIONS, &[&largest]);
    }

    // The cloud reports it and publishes the rest.
    let health = Health::default();
    let publisher = Publisher::open(&kafka, "large-down", key(), None, &health);
    let publisher = publisher.expect("a publisher");
    for bytes in [2 * LARGEST, LARGEST_CONTENT + 1] {
        let refused = publisher.publish(&mut published(bytes), &|| false);
        let is_told = matches!(refused, Err(LinkError::TooLarge { bytes: told }) if told >= bytes);
        assert!(is_told, "{refused:?}");
    }
    assert!(
        publisher
            .publish(&mut published(1000), &|| false)
            .expect("no error")
    );
    assert_eq!(broker.read("large-down").len(), 1);

    // An edge leaves the one model out and shares the rest.
    let samples = SharedSamples {
        sequences: vec![5],
        times: vec![1],
        labels: vec![1.0],
        ..SharedSamples::default()
    };
    let change = |model: PublishedModel| Change {
        epoch: Epoch(3),
        samples: vec![samples.clone()],
        statistics: Vec::new(),
        models: vec![Donation {
            path: vec![TaskDefinition::base()],
            model,
        }],
    };
    let mut changes = Changes {
        edge: "north".to_string(),
        since: 1,
        schema: String::new(),
        sent: 0,
        shed: 0,
        changes: vec![(4, change(model(2 * LARGEST))), (5, change(model(1000)))],
        lineage: None,
    };
    let sender = Sender::open(&kafka, "large-up", key(), None, &|| false).expect("a sender");
    assert!(sender.send(&mut changes, &|| false).expect("no error"));
    let arrived = broker.read("large-up").into_iter().flat_map(|message| {
        let opened = open::<Changes>(&message.value, &key().verifying_key(), "north");
        opened.expect("a message").changes
    });
    let arrived: Vec<(u64, Change)> = arrived.collect();
    let numbers: Vec<u64> = arrived.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, [4, 5]);
    for (number, change) in &arrived {
        assert_eq!(change.samples, std::slice::from_ref(&samples));
        assert_eq!(change.models.len(), usize::from(*number == 5));
    }
}
