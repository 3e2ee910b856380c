//! Two processes of one group whose partitions overlap.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use support::kafka::Broker;
use support::process::signal;
use support::topics::Pipeline;
use support::{ended, stream};

/// Time limit of each wait.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the process that stops says.
const WORDS: &str = "Give each process kafka.partitions of its own";

/// Starts a process with these partitions and a state of its own, which waits for more samples.
fn start(pipeline: &Pipeline, state: &str, partitions: &str) -> Child {
    let partitions = format!("kafka.partitions={partitions}");
    let mut command = pipeline.bench.command(&["run", "config.yaml"]);
    command.args(["--state", state, "--set", &partitions]);
    command.args(["--set", "source.kafka.stop_at_end=false"]);
    let child = command.stderr(Stdio::piped()).spawn();
    child.expect("the program starts")
}

fn wait_for_end(child: &mut Child) {
    let began = Instant::now();
    while child.try_wait().expect("a child").is_none() {
        assert!(began.elapsed() < PATIENCE, "it does not stop");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn later_process_with_some_of_the_partitions_stops() {
    let broker = Broker::shared();
    let pipeline = Pipeline::new(&broker, "overlap", false);
    broker.create_topic(&pipeline.topic("samples"), 4, &[]);
    let samples = stream::samples(63, 3000, 0.0);
    let mut first = start(&pipeline, "state", "0-2");
    // Both begin before there is anything to commit.
    std::thread::sleep(Duration::from_secs(1));
    let mut second = start(&pipeline, "other", "2-3");
    std::thread::sleep(Duration::from_secs(2));
    pipeline.produce(&samples[..2800]);
    wait_for_end(&mut second);
    ended(second.wait_with_output()).failure(1, &[WORDS]);
    // One that begins now stops at its start.
    pipeline.wait_for_predictions();
    let mut third = start(&pipeline, "third", "1,3");
    wait_for_end(&mut third);
    let third = ended(third.wait_with_output());
    third.failure(1, &[WORDS, "and this one 1,3"]);
    // The first one goes on, and its state still belongs to the group.
    assert!(first.try_wait().expect("a child").is_none());
    signal(first.id(), "TERM");
    ended(first.wait_with_output()).success();
    pipeline.produce(&samples[2800..]);
    pipeline.run(&["--set", "kafka.partitions=0-2"]).success();
}
