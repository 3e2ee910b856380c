//! Avro with a schema registry: messages with schema ids in, predictions with a schema id out, and
//! messages of unknown schemas to the dead letters.

use std::collections::BTreeSet;

use support::avro::{SCHEMA, avro};
use support::kafka::Broker;
use support::registry::{Server, not_found, stored};
use support::stream;
use support::topics::{BOOTSTRAP, Pipeline, START};

/// The schema ids of samples and of predictions, and one that is not registered.
const SAMPLES: u32 = 3;
const PREDICTIONS: u32 = 70_000;
const UNKNOWN: u32 = 4;

/// A value in the format of Confluent's serializers.
fn registered(id: u32, record: &[u8]) -> Vec<u8> {
    [&[0][..], &id.to_be_bytes(), record].concat()
}

#[test]
fn schemas_come_from_and_go_to_a_registry() {
    let broker = Broker::shared();
    let pipeline = Pipeline::new(&broker, "registered", false);
    let subject = format!(
        "POST /subjects/{}-value/versions",
        pipeline.topic("predictions")
    );
    let registering = subject.clone();
    let registry = Server::start(move |line| match line {
        "GET /config" => (200, r#"{"compatibilityLevel":"BACKWARD"}"#.to_string()),
        line if line == registering => (200, format!("{{\"id\":{PREDICTIONS}}}")),
        line if line == format!("GET /schemas/ids/{SAMPLES}") => (200, stored(SCHEMA)),
        _ => not_found(),
    });
    let samples = stream::samples(61, 2000, 0.1);
    let message =
        |at: i64, key: &str, value: Vec<u8>| (0, START + at, key.to_string(), Some(value));
    let mut messages: Vec<_> = samples
        .iter()
        .enumerate()
        .map(|(at, sample)| message(at as i64, &sample.site, registered(SAMPLES, &avro(sample))))
        .collect();
    // Among the good messages: an unknown schema, one byte of an id, and another magic byte.
    let bad = [
        (
            registered(UNKNOWN, &avro(&samples[1])),
            "schema 4 is not in the schema registry",
        ),
        (vec![0, 0], ""),
        (
            [&[9][..], &registered(SAMPLES, &avro(&samples[2]))].concat(),
            "",
        ),
    ];
    for (at, (value, _)) in bad.iter().enumerate() {
        messages.insert(
            1000 + 100 * at,
            message(1000 + 100 * at as i64, "bad", value.clone()),
        );
    }
    broker.produce(&pipeline.topic("samples"), &messages);
    let (address, url) = (&broker.address, registry.url());
    let kafka = format!("kafka={{brokers: '{address}', registry: {{url: '{url}'}}}}");
    let source = "source.kafka={topic: registered-samples, format: avro, stop_at_end: true}";
    let sink = "predictions.kafka={topic: registered-predictions, format: avro}";
    let settings = ["--set", &kafka, "--set", source, "--set", sink];
    pipeline.run(&settings).success();
    let mut ids = BTreeSet::new();
    for prediction in broker.read(&pipeline.topic("predictions")) {
        let (head, record) = prediction.value.split_at(5);
        assert_eq!(head, registered(PREDICTIONS, b""));
        // A record begins with its first field, the id: length and text.
        let length = usize::from(record[0]) / 2;
        assert!(ids.insert(String::from_utf8_lossy(&record[1..=length]).into_owned()));
    }
    let scored = samples[BOOTSTRAP..].iter().map(|sample| sample.id.clone());
    assert_eq!(ids, scored.collect());
    let letters = broker.read(&pipeline.topic("dead-letters"));
    assert_eq!(letters.len(), bad.len());
    for (value, reason) in &bad {
        let letter = letters.iter().find(|letter| letter.value == *value);
        let said = &letter.expect("each is a dead letter").headers["perennial.reason"];
        assert!(said.contains(reason), "{said}");
    }
    let requests = registry.requests();
    assert!(requests.iter().any(|request| request.line == subject));
    // A registry that cannot be reached is reported at the start.
    let nobody = format!("kafka={{brokers: '{address}', registry: {{url: 'http://127.0.0.1:1'}}}}");
    let reading = ["--set", &nobody, "--set", source];
    let words = ["perennial: the schema registry http://127.0.0.1:1 cannot be reached"];
    pipeline.run(&reading).failure(1, &words);
}
