//! Kafka in and out: each input counts once, despite crashes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use support::avro::{SCHEMA, avro};
use support::ended;
use support::kafka::{Broker, PARTITIONS, Read};
use support::process::signal;
use support::stream::{self, Sample};
use support::topics::{BOOTSTRAP, Pipeline, START};

#[test]
fn samples_are_predicted_once_with_key_and_timestamp() {
    let broker = Broker::shared();
    for (name, labels_apart) in [("once", false), ("apart", true)] {
        let pipeline = Pipeline::new(&broker, name, labels_apart);
        let samples = stream::samples(31, 3000, 0.1);
        pipeline.produce(&samples);
        pipeline.run(&["--workers", "2"]).success();
        pipeline.check(&samples);
        // Later messages are read from there on.
        let more = stream::samples(32, 4000, 0.1);
        pipeline.produce(&more[3000..]);
        let all: Vec<Sample> = samples.iter().chain(&more[3000..]).cloned().collect();
        let ended = pipeline.run(&[]).success();
        assert!(ended.stdout.contains("4000 records"), "{ended:?}");
        pipeline.check(&all);
    }
}

#[test]
fn clusters_are_found_in_the_bootstrap_of_a_topic() {
    let broker = Broker::shared();
    for (name, labels_apart) in [("clusters", false), ("clusters-apart", true)] {
        let pipeline = Pipeline::new(&broker, name, labels_apart);
        let samples = stream::samples(36, 3000, 0.1);
        pipeline.produce(&samples);
        let path = "tasks.path=[{cluster: {features: [a, b], k: 3}}, [site]]";
        let run = |point: Option<&str>| {
            let mut command = pipeline.command(&["--set", path, "--workers", "2"]);
            command.envs(point.map(|point| ("PERENNIAL_KILL_AT", point)));
            ended(command.output())
        };
        // The first commit has the clusters: killed when found, when prepared and when decided.
        for point in ["clusters: found", "commit: prepared", "commit: decided"] {
            assert_eq!(run(Some(point)).status, None, "{point}");
        }
        run(None).success();
        let clusters = pipeline.bench.kb_json("state", &["clusters"]);
        let found = clusters["clusters"].as_array().expect("clusters").iter();
        let counted: u64 = found.filter_map(|one| one["samples"].as_u64()).sum();
        // Samples with neither feature do not count.
        assert!(
            (BOOTSTRAP as u64 - 10..=BOOTSTRAP as u64).contains(&counted),
            "{clusters}"
        );
        let ids: BTreeSet<String> = broker
            .read(&pipeline.topic("predictions"))
            .iter()
            .map(|read| support::json(&read.value))
            .map(|line| line["id"].as_str().expect("an id").to_string())
            .collect();
        assert_eq!(ids.len(), samples.len() - BOOTSTRAP, "{name}");
        let verified = pipeline
            .bench
            .run(&["kb", "--state", "state", "verify"])
            .success();
        assert!(verified.stdout.starts_with("sound: "), "{verified:?}");
    }
}

#[test]
fn messages_during_partition_opening_are_not_lost() {
    let broker = Broker::shared();
    let pipeline = Pipeline::new(&broker, "many", false);
    let partitions = 300;
    let topic = pipeline.topic("samples");
    broker.create_topic(&topic, partitions, &[]);
    let samples = stream::samples(35, 3000, 0.0);
    let messages: Vec<_> = (0..)
        .zip(&samples)
        .map(|(at, sample)| {
            let value = sample.json().into_bytes();
            let place = at as i32 % partitions;
            (place, START + at, sample.site.clone(), Some(value))
        })
        .collect();
    broker.produce(&topic, &messages);
    pipeline.run(&[]).success();
    let report = pipeline.bench.report("report");
    assert_eq!(report["records"], samples.len(), "{report}");
}

#[test]
fn poison_becomes_dead_letters_byte_for_byte() {
    let broker = Broker::shared();
    let pipeline = Pipeline::new(&broker, "poison", false);
    let samples = stream::samples(33, 2000, 0.0);
    pipeline.produce(&samples);
    let mut future = samples[0].clone();
    (future.id, future.time) = ("future".to_string(), 4_000_000_000);
    let poison: [(Option<Vec<u8>>, &str); 5] = [
        (Some(b"{\"id\": \"torn".to_vec()), "not a JSON object"),
        (Some(b"\x00\xff\xfe".to_vec()), "not a JSON object"),
        (None, "no value"),
        (Some(vec![b' '; 10 << 20]), "longer than 1048576 bytes"),
        (Some(future.json().into_bytes()), "still to come"),
    ];
    let messages: Vec<_> = poison
        .iter()
        .enumerate()
        .map(|(at, (value, _))| (2, START + 5000 + at as i64, format!("k{at}"), value.clone()))
        .collect();
    broker.produce(&pipeline.topic("samples"), &messages);
    let last = stream::samples(34, 2010, 0.0);
    pipeline.produce(&last[2000..]);
    pipeline.run(&[]).success();
    let all: Vec<Sample> = samples.iter().chain(&last[2000..]).cloned().collect();
    pipeline.check(&all);
    let mut letters = broker.read(&pipeline.topic("dead-letters"));
    letters.sort_by_key(|letter| letter.key.clone());
    assert_eq!(letters.len(), poison.len());
    for (letter, (value, reason)) in letters.iter().zip(&poison) {
        assert_eq!(letter.value, value.clone().unwrap_or_default());
        let said = &letter.headers["perennial.reason"];
        assert!(said.contains(reason), "{said}");
        assert_eq!(letter.headers["perennial.partition"], "2");
    }
}

#[test]
fn oversized_dead_letters_go_without_their_values() {
    let broker = Broker::shared();
    let limit = "max.message.bytes=20000";
    let ways = [
        // The broker refuses them, with or without transactions; or librdkafka does.
        ("large", Some(limit), "kafka.delivery=exactly_once"),
        ("twice", Some(limit), "kafka.delivery=at_least_once"),
        ("early", None, "kafka.options={message.max.bytes: 20000}"),
    ];
    for (name, limit, setting) in ways {
        let pipeline = Pipeline::new(&broker, name, false);
        let dead_letters = pipeline.topic("dead-letters");
        if let Some(limit) = limit {
            broker.create_topic(&dead_letters, PARTITIONS, &[limit]);
        }
        let samples = stream::samples(41, 2000, 0.0);
        pipeline.produce(&samples);
        // Small messages that are too large together only, and two that are too large alone.
        let poison: Vec<_> = (0..200)
            .map(|at| {
                let length = match at {
                    40 => 30_000,
                    120 => 25_000,
                    _ => 300 + at,
                };
                let value = vec![b'x'; length];
                (2, START + 5000 + at as i64, "key".to_string(), Some(value))
            })
            .collect();
        broker.produce(&pipeline.topic("samples"), &poison);
        pipeline.run(&["--set", setting]).success();
        if !setting.contains("at_least_once") {
            pipeline.check(&samples);
        }
        let letters: BTreeMap<i64, Read> = broker
            .read(&dead_letters)
            .into_iter()
            .map(|letter| (letter.timestamp - START - 5000, letter))
            .collect();
        assert_eq!(letters.len(), poison.len());
        for (at, letter) in &letters {
            let whole = poison[*at as usize].3.as_deref().unwrap_or_default();
            let too_large = letter.headers.get("perennial.value_too_large");
            if whole.len() > 20_000 {
                assert_eq!(too_large, Some(&whole.len().to_string()));
                assert_eq!(letter.value, b"");
            } else {
                assert_eq!((too_large, &*letter.value), (None, whole));
            }
            assert!(letter.headers["perennial.reason"].contains("not a JSON object"));
            assert_eq!(letter.key.as_deref(), Some(&b"key"[..]));
        }
    }
}

#[test]
fn oversized_predictions_end_the_run() {
    let broker = Broker::shared();
    for delivery in ["exactly_once", "at_least_once"] {
        let pipeline = Pipeline::new(&broker, &format!("refused-{delivery}"), false);
        let topic = pipeline.topic("predictions");
        broker.create_topic(&topic, PARTITIONS, &["max.message.bytes=100"]);
        pipeline.produce(&stream::samples(42, 1500, 0.0));
        let delivery = format!("kafka.delivery={delivery}");
        let ended = pipeline.run(&["--set", &delivery]);
        let topic = format!("the topic \"{topic}\"");
        ended.failure(
            1,
            &[&topic, "max.message.bytes", "kafka.options.batch.size"],
        );
    }
}

#[test]
fn kill_at_any_commit_point_is_resumed() {
    let broker = Broker::shared();
    let points = [
        "before outputs",
        "after outputs",
        "prepared",
        "decided",
        "after knowledge",
    ];
    let pipeline = Pipeline::new(&broker, "killed", true);
    let samples = stream::samples(35, 6000, 0.1);
    pipeline.produce(&samples);
    let mut kills = 0;
    for point in points.iter().cycle() {
        let count = 1 + kills % 3;
        // Small commits: a slow machine must not finish the stream in fewer commits than kills.
        let small = ["epoch.bytes=20000", "commit.epochs=1"];
        let mut command =
            pipeline.command(&["--workers", "2", "--set", small[0], "--set", small[1]]);
        command.env("PERENNIAL_KILL_AT", format!("commit: {point}#{count}"));
        let ended = ended(command.output());
        if ended.status.is_some() {
            ended.success();
            break;
        }
        kills += 1;
        assert!(kills < 200, "it never ends");
    }
    assert!(kills >= 10, "{kills} kills");
    pipeline.check(&samples);
}

#[test]
fn avro_is_read_and_written() {
    let broker = Broker::shared();
    let pipeline = Pipeline::new(&broker, "avro", false);
    pipeline.bench.write("sample.avsc", SCHEMA);
    let samples = stream::samples(39, 2000, 0.1);
    let mut messages: Vec<_> = samples
        .iter()
        .enumerate()
        .map(|(at, sample)| {
            (
                0,
                START + at as i64,
                sample.site.clone(),
                Some(avro(sample)),
            )
        })
        .collect();
    let torn = avro(&samples[0])[..20].to_vec();
    messages.push((0, START + 2000, "torn".to_string(), Some(torn.clone())));
    broker.produce(&pipeline.topic("samples"), &messages);
    let source =
        "source.kafka={topic: avro-samples, format: avro, schema: sample.avsc, stop_at_end: true}";
    let sink = "predictions.kafka={topic: avro-predictions, format: avro}";
    pipeline.run(&["--set", source, "--set", sink]).success();
    let predictions = broker.read(&pipeline.topic("predictions"));
    let mut ids = BTreeSet::new();
    for prediction in &predictions {
        // A record begins with its first field, the id: length and text.
        let length = usize::from(prediction.value[0]) / 2;
        let id = String::from_utf8_lossy(&prediction.value[1..=length]);
        let at: usize = prediction.headers["perennial.offset"]
            .parse()
            .expect("a number");
        assert_eq!(id, samples[at].id);
        assert!(ids.insert(at));
    }
    assert_eq!(ids.len(), samples.len() - BOOTSTRAP);
    // The same samples as JSON give the same report.
    let json = Pipeline::new(&broker, "json", false);
    let messages: Vec<_> = samples
        .iter()
        .enumerate()
        .map(|(at, s)| {
            (
                0,
                START + at as i64,
                s.site.clone(),
                Some(s.json().into_bytes()),
            )
        })
        .collect();
    broker.produce(&json.topic("samples"), &messages);
    json.run(&[]).success();
    let (ours, theirs) = (pipeline.bench.report("report"), json.bench.report("report"));
    for key in ["predicted", "labelled", "unlabelled", "bootstrapped"] {
        assert_eq!(ours[key], theirs[key], "{key}");
    }
    assert_eq!(ours["dead_letters"], 1);
    let letters = broker.read(&pipeline.topic("dead-letters"));
    assert_eq!((letters.len(), &letters[0].value), (1, &torn));
    // An unreachable registry is reported.
    let registry = format!(
        "kafka={{brokers: '{}', registry: {{url: 'http://127.0.0.1:1'}}, wait_seconds: 0}}",
        broker.address
    );
    let ended = pipeline.run(&["--set", source, "--set", sink, "--set", &registry]);
    ended.failure(1, &["127.0.0.1:1"]);
}

#[test]
fn zombie_is_fenced() {
    let broker = Broker::shared();
    let pipeline = Pipeline::new(&broker, "zombie", false);
    let samples = stream::samples(36, 2000, 0.0);
    pipeline.produce(&samples);
    // The first process waits for samples; a second one with another state takes over.
    let endless = ["--set", "source.kafka.stop_at_end=false"];
    let first = pipeline
        .command(&endless)
        .stderr(std::process::Stdio::piped())
        .spawn();
    let mut first = first.expect("the program starts");
    pipeline.wait_for_predictions();
    let mut second = pipeline
        .bench
        .command(&["run", "config.yaml", "--state", "other"]);
    let refused = ended(second.output());
    refused.failure(1, &["consumer group \"zombie\"", "do not belong together"]);
    // The second is refused, but the first is fenced when it next commits.
    pipeline.produce(&stream::samples(37, 2100, 0.0)[2000..]);
    let began = Instant::now();
    while first.try_wait().expect("a child").is_none() {
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "it is not fenced"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    let ended = ended(first.wait_with_output());
    ended.failure(1, &["another process has taken over"]);
    // The first one's state still belongs to the group.
    let all: Vec<Sample> = samples
        .iter()
        .chain(&stream::samples(37, 2100, 0.0)[2000..])
        .cloned()
        .collect();
    pipeline.run(&[]).success();
    pipeline.check(&all);
}

#[test]
fn broker_crash_is_waited_for() {
    let broker = Arc::new(Broker::start());
    let pipeline = Pipeline::new(&broker, "broken", true);
    let samples = stream::samples(38, 4000, 0.1);
    pipeline.produce(&samples[..2000]);
    let endless = ["--set", "source.kafka.stop_at_end=false"];
    let child = pipeline.command(&endless).spawn();
    let child = child.expect("the program starts");
    pipeline.wait_for_predictions();
    broker.crash(Duration::from_secs(5));
    pipeline.produce(&samples[2000..]);
    let began = Instant::now();
    // Until samples are predicted that came after the crash.
    while broker.read(&pipeline.topic("predictions")).len() <= 2000 - BOOTSTRAP {
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "it does not go on"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    signal(child.id(), "TERM");
    ended(child.wait_with_output()).success();
    pipeline.run(&[]).success();
    pipeline.check(&samples);
}

#[test]
fn end_of_outage_is_logged_without_new_messages() {
    let broker = Arc::new(Broker::start());
    let pipeline = Pipeline::new(&broker, "outage", false);
    pipeline.produce(&stream::samples(43, 1500, 0.0));
    let mut command = pipeline.command(&["--set", "source.kafka.stop_at_end=false"]);
    let log = pipeline.bench.path("log");
    command.env("RUST_LOG", "info");
    command.stderr(std::fs::File::create(&log).expect("a file"));
    let child = command.spawn().expect("the program starts");
    pipeline.wait_for_predictions();
    broker.crash(Duration::from_secs(2));
    let began = Instant::now();
    let answers = || {
        let said = std::fs::read_to_string(&log).expect("the log");
        let waits = said.rfind("waiting for Kafka");
        waits.is_some() && said.rfind("Kafka answers again") > waits
    };
    while !answers() {
        let said = std::fs::read_to_string(&log);
        assert!(began.elapsed() < Duration::from_secs(60), "{said:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
    signal(child.id(), "TERM");
    ended(child.wait_with_output()).success();
}

#[test]
fn missing_topics_and_brokers_are_reported() {
    let broker = Broker::shared();
    let pipeline = Pipeline::new(&broker, "missing", false);
    let words = [
        "topic \"missing-samples\" does not exist",
        "kafka-topics.sh",
    ];
    pipeline.run(&[]).failure(1, &words);
    let nobody = [
        "--set",
        "kafka.brokers=127.0.0.1:1",
        "--set",
        "kafka.wait_seconds=1",
    ];
    pipeline
        .run(&nobody)
        .failure(1, &["no Kafka broker answers at 127.0.0.1:1"]);
    let secret = ["--set", "kafka.options={security.protocol: hunter2}"];
    let ended = pipeline.run(&secret);
    assert!(!ended.stderr.contains("hunter2"), "{ended:?}");
    ended.failure(2, &["kafka.options", "security.protocol"]);
    let pinned = ["--set", "kafka.options={group.id: other}"];
    pipeline
        .run(&pinned)
        .failure(2, &["kafka.options.group.id", "set kafka.group"]);
}
