//! Avro with a schema registry: messages with schema ids in, predictions with a schema id out, and
//! messages of unknown schemas to the dead letters.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

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

/// A sample in that format.
fn registered_value(id: u32, sample: &stream::Sample) -> Vec<u8> {
    registered(id, &avro(sample))
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
        .map(|(at, sample)| message(at as i64, &sample.site, registered_value(SAMPLES, sample)))
        .collect();
    // Among the good messages: an unknown schema, one byte of an id, and another magic byte.
    let bad = [
        (
            registered_value(UNKNOWN, &samples[1]),
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
    // A registry that cannot be reached is reported at the start, after a wait.
    let nobody = format!(
        "kafka={{brokers: '{address}', registry: {{url: 'http://127.0.0.1:1'}}, wait_seconds: 0}}"
    );
    let reading = ["--set", &nobody, "--set", source];
    let words = ["perennial: the schema registry http://127.0.0.1:1 cannot be reached"];
    pipeline.run(&reading).failure(1, &words);
}

#[test]
fn registry_is_waited_for_but_not_for_one_schema() {
    let broker = Broker::shared();
    let pipeline = Pipeline::new(&broker, "registry-away", false);
    let subject = format!(
        "POST /subjects/{}-value/versions",
        pipeline.topic("predictions")
    );
    // It is away when the run begins, then while the schema is registered, and never gives one.
    let (greeted, registered) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let is_away = |asked: &AtomicUsize| asked.fetch_add(1, Ordering::SeqCst) < 2;
    let registry = Server::start(move |line| match line {
        "GET /config" if is_away(&greeted) => (503, String::new()),
        "GET /config" => (200, r#"{"compatibilityLevel":"BACKWARD"}"#.to_string()),
        line if line == subject && is_away(&registered) => (503, String::new()),
        line if line == subject => (200, format!("{{\"id\":{PREDICTIONS}}}")),
        line if line == format!("GET /schemas/ids/{SAMPLES}") => (200, stored(SCHEMA)),
        _ => (500, String::new()),
    });
    let samples = stream::samples(62, BOOTSTRAP + 300, 0.1);
    let message = |(at, sample): (usize, &stream::Sample)| {
        // Two messages are of the schema that the registry does not give.
        let id = if [900, 950].contains(&at) {
            UNKNOWN
        } else {
            SAMPLES
        };
        let value = registered_value(id, sample);
        (0, START + at as i64, sample.site.clone(), Some(value))
    };
    let messages: Vec<_> = samples.iter().enumerate().map(message).collect();
    broker.produce(&pipeline.topic("samples"), &messages);
    let (address, url) = (&broker.address, registry.url());
    let kafka =
        format!("kafka={{brokers: '{address}', registry: {{url: '{url}'}}, wait_seconds: 3}}");
    let source = "source.kafka={topic: registry-away-samples, format: avro, stop_at_end: true}";
    let sink = "predictions.kafka={topic: registry-away-predictions, format: avro}";
    let settings = ["--set", &kafka, "--set", source, "--set", sink];
    let ended = pipeline.run(&settings).success();
    let waits = ended.stderr.matches("waiting for Kafka").count();
    // At the start, for the registration, and for the schema.
    assert!((1..=3).contains(&waits), "{}", ended.stderr);
    let predicted = broker.read(&pipeline.topic("predictions")).len();
    assert_eq!(predicted, samples.len() - BOOTSTRAP - 2);
    let letters = broker.read(&pipeline.topic("dead-letters"));
    assert_eq!(letters.len(), 2);
    for letter in &letters {
        let reason = &letter.headers["perennial.reason"];
        assert!(reason.contains("answers 500"), "{reason}");
        assert!(reason.contains("it answers other requests"), "{reason}");
    }
}
