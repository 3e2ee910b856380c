//! Outages of Kafka, and what a crash leaves open between the knowledge base and Kafka.

use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use support::kafka::Broker;
use support::process::signal;
use support::stream::{self, Sample};
use support::topics::{BOOTSTRAP, Pipeline};
use support::{Ended, ended};

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

/// A broker that soon aborts what outlasts its timeout.
fn impatient_broker() -> Arc<Broker> {
    let settings = ["transaction.abort.timed.out.transaction.cleanup.interval.ms=500"];
    Arc::new(Broker::start_with(&settings))
}

/// Starts a pipeline whose transactions may take two seconds.
fn impatient(pipeline: &Pipeline, commit: &str, prepare: impl Fn(&mut Command)) -> Child {
    let mut command = pipeline.command(&[
        "--set",
        "source.kafka.stop_at_end=false",
        "--set",
        "kafka.options={transaction.timeout.ms: 2000}",
        "--set",
        commit,
    ]);
    prepare(&mut command);
    let child = command.stderr(Stdio::piped()).spawn();
    child.expect("the program starts")
}

/// Has a halted pipeline go on after Kafka has aborted its transaction, gives it the rest of its
/// samples, and checks that each is predicted once. Returns what it said.
fn outlasts_its_timeout(pipeline: &Pipeline, child: Child, samples: &[Sample]) -> Ended {
    std::thread::sleep(Duration::from_secs(4));
    signal(child.id(), "CONT");
    pipeline.produce(&samples[2000..]);
    let expected = samples.len() - BOOTSTRAP;
    wait_until("all is predicted", || {
        pipeline.broker.read(&pipeline.topic("predictions")).len() >= expected
    });
    signal(child.id(), "TERM");
    let ended = ended(child.wait_with_output()).success();
    // Each sample is predicted once. Which labels are known depends on the order of arrival.
    let predictions = pipeline.broker.read(&pipeline.topic("predictions"));
    let places: BTreeSet<_> = predictions
        .iter()
        .map(|one| ["perennial.partition", "perennial.offset"].map(|name| &one.headers[name]))
        .collect();
    assert_eq!((predictions.len(), places.len()), (expected, expected));
    let verified = pipeline.bench.run(&["kb", "--state", "state", "verify"]);
    verified.success();
    ended
}

#[test]
fn timed_out_transaction_is_sent_again() {
    let broker = impatient_broker();
    let pipeline = Pipeline::new(&broker, "outlasted", false);
    let samples = stream::samples(76, 3000, 0.1);
    pipeline.produce(&samples[..2000]);
    // A transaction stays open for half of its timeout.
    let commit = "commit={epochs: 1000000, interval_ms: 1000}";
    let child = impatient(&pipeline, commit, |_| {});
    let predictions = pipeline.topic("predictions");
    wait_until("it halts within a transaction", || {
        if broker.topics().contains(&predictions) && broker.is_in_transaction(&predictions) {
            signal(child.id(), "STOP");
            if broker.is_in_transaction(&predictions) {
                return true;
            }
            signal(child.id(), "CONT");
        }
        false
    });
    let ended = outlasts_its_timeout(&pipeline, child, &samples);
    assert!(
        ended.stderr.contains("making the producer anew"),
        "{ended:?}"
    );
}

#[test]
fn commit_outlasts_a_halt_after_its_transaction() {
    let broker = impatient_broker();
    let pipeline = Pipeline::new(&broker, "decided", false);
    let samples = stream::samples(76, 3000, 0.1);
    pipeline.produce(&samples[..2000]);
    let child = impatient(&pipeline, "commit.epochs=12", |command| {
        command.env("PERENNIAL_HALT_AT", "commit: decided#4");
    });
    wait_until("it halts", || {
        let status = std::fs::read_to_string(format!("/proc/{}/stat", child.id()));
        status.is_ok_and(|status| status.rsplit_once(") T ").is_some())
    });
    let ended = outlasts_its_timeout(&pipeline, child, &samples);
    assert!(
        !ended.stderr.contains("making the producer anew"),
        "{ended:?}"
    );
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
