//! Outages of Kafka, and what a crash leaves open between the knowledge base and Kafka.

use std::process::Stdio;
use std::time::{Duration, Instant};

use support::ended;
use support::kafka::Broker;
use support::process::signal;
use support::stream;
use support::topics::{BOOTSTRAP, Pipeline};

/// Time limit of each wait.
const PATIENCE: Duration = Duration::from_secs(60);

/// Delivery without transactions.
const AT_LEAST_ONCE: [&str; 2] = ["--set", "kafka.delivery=at_least_once"];

/// A run that is killed at a point.
fn killed(pipeline: &Pipeline, point: &str) {
    let mut command = pipeline.command(&["--set", "epoch.bytes=20000", "--set", "commit.epochs=1"]);
    command.env("PERENNIAL_KILL_AT", point);
    assert_eq!(ended(command.output()).status, None, "{point}");
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn prepared_commit_is_settled_whatever_the_delivery() {
    let broker = Broker::shared();
    for point in ["commit: prepared#4", "commit: decided#4"] {
        let name = point.replace([':', ' ', '#'], "-");
        let pipeline = Pipeline::new(&broker, &name, false);
        let samples = stream::samples(74, 3000, 0.1);
        pipeline.produce(&samples[..2000]);
        killed(&pipeline, point);
        // Commits go on without transactions, and then with them.
        pipeline.run(&AT_LEAST_ONCE).success();
        pipeline.produce(&samples[2000..2500]);
        pipeline.run(&AT_LEAST_ONCE).success();
        pipeline.produce(&samples[2500..]);
        pipeline.run(&[]).success();
        pipeline.check(&samples);
        pipeline.run(&[]).success();
    }
}

#[test]
fn commit_is_settled_by_hand_once_the_group_is_forgotten() {
    let broker = Broker::shared();
    let pipeline = Pipeline::new(&broker, "forgotten", false);
    let samples = stream::samples(75, 2500, 0.1);
    pipeline.produce(&samples[..2000]);
    killed(&pipeline, "commit: decided#4");
    broker.delete_group("forgotten");
    let words = [
        "\"forgotten\" has no commits any more",
        "perennial kb settle",
    ];
    pipeline.run(&[]).failure(1, &words);
    let settle = ["kb", "--state", "state", "settle", "apply"];
    let settled = pipeline.bench.run(&settle).success();
    assert!(settled.stdout.contains("is applied"), "{settled:?}");
    pipeline.run(&[]).success();
    pipeline.check(&samples[..2000]);
    pipeline
        .bench
        .run(&settle)
        .failure(1, &["nothing to settle"]);
    // Without a prepared commit the knowledge base alone says where to go on.
    broker.delete_group("forgotten");
    pipeline.produce(&samples[2000..]);
    pipeline.run(&[]).success();
    pipeline.check(&samples);
}

#[test]
fn timed_out_transaction_is_settled_in_place() {
    let broker =
        Broker::start_with(&["transaction.abort.timed.out.transaction.cleanup.interval.ms=500"]);
    let broker = std::sync::Arc::new(broker);
    for point in ["commit: prepared#4", "commit: decided#4"] {
        let name = point.replace([':', ' ', '#'], "-");
        let pipeline = Pipeline::new(&broker, &name, false);
        let samples = stream::samples(76, 3000, 0.1);
        pipeline.produce(&samples[..2000]);
        let mut command = pipeline.command(&[
            "--set",
            "source.kafka.stop_at_end=false",
            "--set",
            "kafka.options={transaction.timeout.ms: 2000}",
            "--set",
            "epoch.bytes=20000",
            "--set",
            "commit.epochs=1",
        ]);
        command.env("PERENNIAL_HALT_AT", point);
        let child = command.stderr(Stdio::piped()).spawn();
        let child = child.expect("the program starts");
        let id = child.id();
        wait_until("it halts", || {
            let status = std::fs::read_to_string(format!("/proc/{id}/stat"));
            status.is_ok_and(|status| status.rsplit_once(") T ").is_some())
        });
        // Kafka aborts the transaction.
        std::thread::sleep(Duration::from_secs(4));
        signal(id, "CONT");
        pipeline.produce(&samples[2000..]);
        wait_until("all is predicted", || {
            broker.read(&pipeline.topic("predictions")).len() >= samples.len() - BOOTSTRAP
        });
        signal(id, "TERM");
        let ended = ended(child.wait_with_output()).success();
        let is_anew = ended.stderr.contains("making the producer anew");
        assert_eq!(is_anew, point.contains("prepared"), "{ended:?}");
        pipeline.check(&samples);
    }
}

#[test]
fn start_waits_for_kafka() {
    let broker = Broker::shared();
    let pipeline = Pipeline::new(&broker, "patient", false);
    // It waits, and says for what, until it is told to stop.
    let child = pipeline
        .command(&["--set", "kafka.brokers=127.0.0.1:1"])
        .stderr(std::fs::File::create(pipeline.bench.path("log")).expect("a file"))
        .spawn();
    let mut child = child.expect("the program starts");
    wait_until("it waits", || {
        let log = String::from_utf8_lossy(&pipeline.bench.read("log")).into_owned();
        log.contains("waiting for Kafka") && log.contains("127.0.0.1:1")
    });
    assert_eq!(child.try_wait().expect("a child"), None);
    signal(child.id(), "TERM");
    assert!(child.wait().expect("a child").success());
    let briefly = [
        "--set",
        "kafka.brokers=127.0.0.1:1",
        "--set",
        "kafka.wait_seconds=1",
    ];
    let words = ["no Kafka broker answers at 127.0.0.1:1"];
    pipeline.run(&briefly).failure(1, &words);
}

#[test]
fn commit_interval_is_checked_against_transactions() {
    let broker = Broker::shared();
    let pipeline = Pipeline::new(&broker, "slow-commits", false);
    let slow = ["--set", "commit.interval_ms=60000"];
    let words = [
        "commit.interval_ms",
        "at most 30000",
        "transaction.timeout.ms",
    ];
    pipeline.run(&slow).failure(2, &words);
    let longer = [
        &slow[..],
        &["--set", "kafka.options={transaction.timeout.ms: 2000}"],
    ]
    .concat();
    pipeline.run(&longer).failure(2, &["at most 1000"]);
}
