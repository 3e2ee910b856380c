//! Records that are gone before they are read, and topics made anew.

use std::collections::BTreeSet;
use std::process::Child;
use std::time::{Duration, Instant};

use support::ended;
use support::kafka::{Broker, PARTITIONS, Read};
use support::process::signal;
use support::stream::{self, Sample};
use support::topics::{BOOTSTRAP, Pipeline};

/// The state's record of what was skipped.
fn skipped(pipeline: &Pipeline) -> serde_json::Value {
    let status = ["status", "config.yaml", "--state", "state", "--json"];
    let status = pipeline.bench.run(&status).success();
    support::json(status.stdout.as_bytes())["skipped"].clone()
}

/// Asserts that the knowledge base is sound and has a change for each partition that was skipped.
fn assert_recorded(pipeline: &Pipeline, partitions: usize) {
    let kb = |what: &str| {
        pipeline
            .bench
            .run(&["kb", "--state", "state", what])
            .success()
    };
    let verified = kb("verify");
    assert!(verified.stdout.starts_with("sound: "), "{verified:?}");
    let changes = kb("changes").stdout;
    assert_eq!(changes.matches("records skipped").count(), partitions);
}

/// A run that goes on at the oldest records if those to read next are gone, until it is ended.
fn endless(pipeline: &Pipeline) -> Child {
    let settings = [
        "--set",
        "source.kafka.stop_at_end=false",
        "--set",
        "source.kafka.on_gone=earliest",
    ];
    let child = pipeline.command(&settings).spawn();
    child.expect("the program starts")
}

fn wait_until(mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn deleted_records_are_skipped_if_the_config_says_so() {
    let broker = Broker::shared();
    for (name, labels_apart) in [("expired", false), ("expired-apart", true)] {
        let pipeline = Pipeline::new(&broker, name, labels_apart);
        let samples = stream::samples(71, 1600, 0.0);
        pipeline.produce(&samples[..1000]);
        pipeline.run(&[]).success();
        pipeline.produce(&samples[1000..1300]);
        broker.expire(&pipeline.topic("samples"));
        if labels_apart {
            broker.expire(&pipeline.topic("labels"));
        }
        pipeline.produce(&samples[1300..]);
        let words = ["samples", "Set source.kafka.on_gone", "earliest"];
        pipeline.run(&[]).failure(1, &words);
        let go_on = ["--set", "source.kafka.on_gone=earliest"];
        let log = pipeline.run(&go_on).success().stderr;
        assert!(log.contains("going on without them"), "{log}");
        let read: Vec<Sample> = [&samples[..1000], &samples[1300..]].concat();
        assert_eq!(pipeline.bench.report("report")["records"], read.len());
        let skipped = skipped(&pipeline);
        let skipped = skipped.as_array().expect("a list").iter();
        let of_samples = skipped
            .clone()
            .filter(|one| one["last"]["place"]["topic"] == *pipeline.topic("samples"));
        let offsets: u64 = of_samples.filter_map(|one| one["offsets"].as_u64()).sum();
        assert_eq!(offsets, 300);
        assert_recorded(&pipeline, skipped.len());
        // The gap is behind it.
        pipeline.run(&[]).success();
    }
}

#[test]
fn deletion_is_survived_while_a_run_goes_on() {
    let broker = Broker::shared();
    let pipeline = Pipeline::new(&broker, "halted", false);
    let samples = stream::samples(72, 1500, 0.0);
    pipeline.produce(&samples[..1000]);
    let child = endless(&pipeline);
    let predicted = |count: usize| {
        let topic = pipeline.topic("predictions");
        wait_until(|| broker.read(&topic).len() >= count);
    };
    predicted(1000 - BOOTSTRAP);
    signal(child.id(), "STOP");
    // Until the broker has answered the last request.
    std::thread::sleep(Duration::from_millis(500));
    pipeline.produce(&samples[1000..1300]);
    broker.expire(&pipeline.topic("samples"));
    pipeline.produce(&samples[1300..]);
    signal(child.id(), "CONT");
    predicted(1200 - BOOTSTRAP);
    signal(child.id(), "TERM");
    ended(child.wait_with_output()).success();
    let offsets = skipped(&pipeline);
    let offsets = offsets.as_array().expect("a list").iter();
    let offsets: u64 = offsets.filter_map(|one| one["offsets"].as_u64()).sum();
    assert_eq!(offsets, 300);
}

#[test]
fn topic_made_anew_is_not_read_from_the_middle() {
    let broker = Broker::shared();
    let pipeline = Pipeline::new(&broker, "anew", false);
    let samples = stream::samples(73, 4000, 0.0);
    let (first, second) = samples.split_at(1000);
    pipeline.produce(first);
    pipeline.run(&[]).success();
    let topic = pipeline.topic("samples");
    broker.delete_topic(&topic);
    broker.create_topic(&topic, PARTITIONS, &[]);
    // The new topic is longer than the old one was.
    pipeline.produce(second);
    let words = ["was deleted and made anew", "source.kafka.on_gone"];
    pipeline.run(&[]).failure(1, &words);
    let go_on = ["--set", "source.kafka.on_gone=earliest"];
    pipeline.run(&go_on).success();
    assert_eq!(pipeline.bench.report("report")["records"], samples.len());
    assert_recorded(&pipeline, PARTITIONS as usize);
    pipeline.run(&[]).success();
}

#[test]
fn topic_made_anew_while_a_run_goes_on_is_read_from_its_start() {
    let broker = Broker::shared();
    let pipeline = Pipeline::new(&broker, "anew-live", false);
    let samples = stream::samples(74, 4000, 0.0);
    let (first, second) = samples.split_at(1000);
    pipeline.produce(first);
    let child = endless(&pipeline);
    let predictions = pipeline.topic("predictions");
    wait_until(|| broker.read(&predictions).len() >= first.len() - BOOTSTRAP);
    signal(child.id(), "STOP");
    // Until the broker has answered the last request.
    std::thread::sleep(Duration::from_millis(500));
    let topic = pipeline.topic("samples");
    broker.delete_topic(&topic);
    broker.create_topic(&topic, PARTITIONS, &[]);
    // The new topic is longer than the old one was.
    pipeline.produce(second);
    signal(child.id(), "CONT");
    wait_until(|| {
        let predicted = broker.read(&predictions);
        let id = |record: &Read| support::json(&record.value)["id"].to_string();
        let ids: BTreeSet<String> = predicted.iter().map(id).collect();
        ids.len() == samples.len() - BOOTSTRAP
    });
    signal(child.id(), "TERM");
    ended(child.wait_with_output()).success();
    assert_recorded(&pipeline, PARTITIONS as usize);
}
