//! Delivery without faults: at least once, shared by processes, across restarts, and from the very
//! beginning.

use std::ops::RangeInclusive;
use std::sync::Arc;

use support::kafka::{Broker, now};
use support::{Bench, Ended, ended};

use super::feeder::Feeder;
use super::recount::{Checked, Pipeline, check};
use super::{BOOTSTRAP, Topics, config};

/// A pipeline on topics of its own, without faults.
struct Calm {
    bench: Bench,
    broker: Arc<Broker>,
    topics: Topics,
}

impl Calm {
    fn new(name: &str, kafka: &str) -> Calm {
        let (bench, broker) = (Bench::new(), Broker::shared());
        let topics = Topics::new(&broker, name);
        bench.write("config.yaml", config(&broker, &topics, kafka));
        Calm {
            bench,
            broker,
            topics,
        }
    }

    fn feeder(&self, seed: u64) -> Feeder {
        Feeder::new(&self.broker, &self.topics, seed)
    }

    /// Runs it to the end of its topics, or until it is killed at a point.
    fn run(&self, state: &str, kill_at: Option<&str>, more: &[&str]) -> Ended {
        let report = format!("{state}.json");
        let arguments = ["run", "config.yaml", "--state", state, "--report", &report];
        let mut command = self.bench.command(&arguments);
        command.args(["--workers", "2", "--set", "source.kafka.stop_at_end=true"]);
        command.args(more);
        if let Some(point) = kill_at {
            command.env("PERENNIAL_KILL_AT", point);
        }
        ended(command.output())
    }

    fn check(&self, state: &str, partitions: RangeInclusive<i32>, repeats: bool) -> Checked {
        check(&Pipeline {
            bench: &self.bench,
            broker: &self.broker,
            topics: &self.topics,
            state,
            report: state,
            partitions,
            bootstrap: BOOTSTRAP,
            repeats,
        })
    }
}

#[test]
fn at_least_once_loses_nothing_and_learns_from_each_sample_once() {
    let calm = Calm::new("least", "delivery: at_least_once");
    let mut feeder = calm.feeder(51);
    feeder.send_bootstrap(BOOTSTRAP);
    let samples = feeder.samples(4000);
    feeder.send_samples(&samples, now(), true);
    feeder.send_labels(&samples, now() + 100, true);
    let points = ["before outputs", "after outputs", "sent", "after knowledge"];
    let mut kills = 0;
    for point in points.iter().cycle() {
        let point = format!("commit: {point}#{}", 1 + kills % 3);
        let ended = calm.run("state", Some(&point), &[]);
        if ended.status.is_some() {
            ended.success();
            break;
        }
        kills += 1;
        assert!(kills < 200, "it never ends");
    }
    // The number of repeats depends on the size of a commit, but each point is reached.
    assert!(kills >= points.len(), "{kills} kills");
    let checked = calm.check("state", 0..=3, true);
    assert!(checked.repeated > 0, "nothing came twice");
}

#[test]
fn processes_with_their_own_partitions_share_the_work() {
    let calm = Calm::new("shared", "group: team");
    let mut feeder = calm.feeder(52);
    feeder.send_bootstrap(4 * BOOTSTRAP);
    let samples = feeder.samples(2000);
    feeder.send_samples(&samples, now(), true);
    feeder.send_labels(&samples, now() + 100, true);
    std::thread::scope(|scope| {
        for partitions in ["0-1", "2-3"] {
            let calm = &calm;
            scope.spawn(move || {
                let set = format!("kafka.partitions={partitions}");
                let point = "commit: prepared#3";
                let killed = calm.run(partitions, Some(point), &["--set", &set]);
                assert_eq!(killed.status, None, "{killed:?}");
                calm.run(partitions, None, &["--set", &set]).success();
            });
        }
    });
    calm.check("0-1", 0..=1, false);
    calm.check("2-3", 2..=3, false);
}

#[test]
fn labels_before_their_samples_survive_a_restart() {
    let calm = Calm::new("early", "");
    let mut feeder = calm.feeder(53);
    feeder.send_bootstrap(BOOTSTRAP + 400);
    let samples = feeder.samples(600);
    feeder.send_labels(&samples, now(), false);
    calm.run("state", None, &[]).success();
    let before = calm.bench.report("state");
    feeder.send_samples(&samples, now(), false);
    // Labels that joined before a crash join again after it, once.
    let killed = calm.run("state", Some("commit: decided#1"), &[]);
    assert_eq!(killed.status, None, "{killed:?}");
    calm.run("state", None, &[]).success();
    let after = calm.bench.report("state");
    let labelled = samples.iter().filter(|sample| sample.label.is_some());
    let more = labelled.count() as u64;
    assert_eq!(
        after["labelled"].as_u64(),
        before["labelled"].as_u64().map(|before| before + more)
    );
    calm.check("state", 0..=3, false);
}

#[test]
fn kill_before_the_first_message_is_resumed() {
    let calm = Calm::new("empty", "");
    for point in ["commit: prepared", "commit: decided"] {
        // It would wait for samples forever.
        let mut command = calm
            .bench
            .command(&["run", "config.yaml", "--state", "state"]);
        let killed = ended(command.env("PERENNIAL_KILL_AT", point).output());
        assert_eq!(killed.status, None, "{killed:?}");
    }
    let mut feeder = calm.feeder(54);
    feeder.send_bootstrap(BOOTSTRAP + 400);
    calm.run("state", None, &[]).success();
    calm.check("state", 0..=3, false);
}

#[test]
fn latest_is_where_the_first_run_began() {
    let calm = Calm::new("latest", "");
    let mut feeder = calm.feeder(55);
    feeder.send_bootstrap(100);
    let latest = ["--set", "source.kafka.from=latest"];
    calm.run("state", None, &latest).success();
    assert_eq!(calm.bench.report("state")["records"], 0);
    feeder.send_bootstrap(BOOTSTRAP + 400);
    calm.run("state", None, &latest).success();
    let report = calm.bench.report("state");
    assert_eq!(report["records"], BOOTSTRAP + 400, "{report}");
}
