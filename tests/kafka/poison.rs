//! Messages that are bad by their size or their time, which must not end the stream.

use support::kafka::{Broker, PARTITIONS, Read};
use support::stream::{self, Sample};
use support::topics::{Pipeline, START};

/// What a topic of results takes, bytes.
const LIMIT: usize = 100_000;

/// A sample with an id of its own.
fn sample(id: &str) -> Sample {
    let mut sample = stream::samples(51, 1, 0.0).remove(0);
    sample.id = id.to_string();
    sample
}

fn of_id<'a>(predictions: &'a [Read], id: &str) -> Vec<&'a Read> {
    let is_of = |read: &&Read| support::json(&read.value)["id"] == id;
    predictions.iter().filter(is_of).collect()
}

#[test]
fn large_headers_and_keys_do_not_end_the_stream() {
    let broker = Broker::shared();
    let limited = format!("max.message.bytes={LIMIT}");
    let small_batches = "kafka.options={batch.size: 50000}";
    let small_messages = "kafka.options={batch.size: 50000, message.max.bytes: 100000}";
    let ways = [
        ("headed", "kafka.delivery=exactly_once", small_batches, true),
        (
            "headed-twice",
            "kafka.delivery=at_least_once",
            small_batches,
            true,
        ),
        // librdkafka refuses them; a file has the dead letters.
        (
            "headed-early",
            "kafka.delivery=exactly_once",
            small_messages,
            false,
        ),
        (
            "headed-file",
            "kafka.delivery=exactly_once",
            small_batches,
            false,
        ),
    ];
    for (name, delivery, options, has_letters) in ways {
        let pipeline = Pipeline::new(&broker, name, false);
        let (samples, letters) = (pipeline.topic("samples"), pipeline.topic("dead-letters"));
        broker.create_topic(&pipeline.topic("predictions"), PARTITIONS, &[&limited]);
        broker.create_topic(&letters, PARTITIONS, &[&limited]);
        if !has_letters {
            let config = String::from_utf8(pipeline.bench.read("config.yaml")).expect("text");
            let section = format!("dead_letters:\n  kafka: {{topic: {letters}}}\n");
            pipeline
                .bench
                .write("config.yaml", config.replace(&section, ""));
        }
        pipeline.produce(&stream::samples(43, 1500, 0.0));
        let poison: [(&str, usize, usize); 4] = [
            ("headers", 3, 300_000),
            ("whole", 3, 2_000_000),
            ("key", 200_000, 10),
            ("both", 150_000, 150_000),
        ];
        for (at, (id, key, header)) in (0..).zip(poison) {
            let (key, header) = (vec![b'k'; key], vec![b'h'; header]);
            let value = sample(id).json();
            let place = (1, START + 5000 + at);
            broker.produce_with_header(&samples, place, (&key, &header, value.as_bytes()));
        }
        let last = stream::samples(43, 1510, 0.0);
        pipeline.produce(&last[1500..]);
        pipeline
            .run(&["--set", delivery, "--set", options])
            .success();

        let predictions = broker.read(&pipeline.topic("predictions"));
        for sample in &last[1500..] {
            assert!(!of_id(&predictions, &sample.id).is_empty(), "{}", sample.id);
        }
        let without_headers = of_id(&predictions, "headers");
        assert!(!without_headers.is_empty(), "{name}");
        assert!(!without_headers[0].headers.contains_key("trace"));
        assert_eq!(without_headers[0].headers["perennial.partition"], "1");
        for id in ["whole", "key", "both"] {
            assert!(of_id(&predictions, id).is_empty(), "{name}: {id}");
        }
        let report = pipeline.bench.report("report");
        assert_eq!(report["dead_letters"], 3, "{report}");
        let reasons = if has_letters {
            let mut letters = broker.read(&letters);
            letters.sort_by_key(|letter| letter.headers["perennial.offset"].clone());
            if delivery.ends_with("at_least_once") {
                // What was refused in part is sent again.
                letters.dedup_by_key(|letter| letter.headers["perennial.offset"].clone());
            }
            for letter in &letters {
                let lengths = ["perennial.key_too_large", "perennial.headers_too_large"];
                let lengths = lengths.map(|name| letter.headers.get(name).map(String::as_str));
                let expected = match &*letter.headers["perennial.offset"] {
                    _ if letter.headers["perennial.reason"].contains("max_record_bytes") => {
                        [Some("3"), Some("2000011")]
                    }
                    _ if lengths[1] == Some("21") => [Some("200000"), Some("21")],
                    _ => [Some("150000"), Some("150011")],
                };
                assert_eq!(lengths, expected, "{letter:?}");
                assert_eq!((&letter.key, letter.value.len()), (&None, 0));
            }
            let reasons = letters
                .iter()
                .map(|read| read.headers["perennial.reason"].clone());
            reasons.collect::<Vec<_>>()
        } else {
            let letters = pipeline.bench.dead_letters("state");
            let reason = |letter: &serde_json::Value| letter["reason"].to_string();
            letters.iter().map(reason).collect()
        };
        let count = |words: &str| reasons.iter().filter(|said| said.contains(words)).count();
        assert_eq!(count("does not take its prediction"), 2, "{reasons:?}");
        assert_eq!(count("longer than 1048576 bytes"), 1, "{reasons:?}");
        assert_eq!(reasons.len(), 3, "{reasons:?}");
    }
}

#[test]
fn samples_of_a_topic_whose_clock_is_ahead_are_not_bad() {
    let broker = Broker::shared();
    let pipeline = Pipeline::new(&broker, "ahead", false);
    let samples = pipeline.topic("samples");
    // The broker's clock bounds timestamps; a machine that is behind it sees them in the future.
    let any = "message.timestamp.after.max.ms=9223372036854775807";
    broker.create_topic(&samples, PARTITIONS, &[any]);
    pipeline.produce(&stream::samples(44, 1500, 0.0));
    let mut ahead = sample("ahead");
    ahead.time = 4_000_000_000;
    let value = ahead.json().into_bytes();
    let late = START + 5000;
    let messages = [
        (1, ahead.time * 1000, "key".to_string(), Some(value)),
        (
            2,
            late,
            "key".to_string(),
            Some(sample("last").json().into_bytes()),
        ),
    ];
    broker.produce(&samples, &messages);
    pipeline.run(&[]).success();
    let predictions = broker.read(&pipeline.topic("predictions"));
    // The topic of predictions refuses timestamps of the future, so this one has none of them.
    let predicted = of_id(&predictions, "ahead");
    assert_eq!(predicted.len(), 1);
    assert!(predicted[0].timestamp < ahead.time * 1000);
    assert_eq!(pipeline.bench.report("report")["dead_letters"], 0);
}
