//! What bounds memory: sessions of models that are evicted and made again on demand, and commits
//! that leave nothing behind.

use std::collections::BTreeSet;

use support::{Bench, Ended};

/// A fleet whose contexts get models of their own, replaced again and again by drift.
const CONFIG: &str = "name: fleet
source:
  simulator: {seed: 7, records: 7000, sites: 8, contexts: 3, features: 8, drift: {every: 3000, strength: 1.0}}
tasks: {path: [[season, zone], [site]]}
bootstrap: {records: 2000}
epoch: {records: 100}
labels: {delay: {records: 100}}
memory: {samples_per_task: 300}
training: {min_samples: 100, trees: {rounds: 10, max_depth: 3}}
triggers: {when: ['new_samples >= 300'], window: 200}
";

/// Runs `config.yaml` as `name` with settings.
fn run(bench: &Bench, name: &str, more: &[&str]) -> Ended {
    let mut command = bench.pipeline(name, more);
    command.env("RUST_LOG", "perennial=info");
    support::ended(command.output()).success()
}

/// The number of evicted sessions, over all workers.
fn evicted(ended: &Ended) -> u64 {
    let numbers = ended.stderr.split("evicted=").skip(1);
    numbers
        .map(|rest| {
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            digits.parse::<u64>().expect("a number")
        })
        .sum()
}

#[test]
fn evicted_sessions_are_recreated_and_predict_the_same() {
    let bench = Bench::new();
    bench.write("config.yaml", CONFIG);
    let ample = run(&bench, "ample", &[]);
    assert_eq!(evicted(&ample), 0, "{ample:?}");
    let ample = bench.left("ample");
    let predictions = bench.predictions("ample");
    let models: BTreeSet<String> = predictions
        .iter()
        .map(|line| line["model"].to_string())
        .collect();
    assert!(models.len() > 10, "{models:?}");
    for (name, workers) in [("one", "1"), ("two", "2")] {
        let more = ["--set", "inference.memory_bytes=1", "--workers", workers];
        let tiny = run(&bench, name, &more);
        // With room for one session, nearly every batch makes some again.
        assert!(evicted(&tiny) > 100, "{name}: {} evicted", evicted(&tiny));
        ample.assert_equals(&bench.left(name), name);
    }
    // A resumed run has all models again.
    let mut command = bench.pipeline("killed", &["--set", "inference.memory_bytes=1"]);
    command.env("PERENNIAL_KILL_AT", "commit: after knowledge#5");
    assert_eq!(support::ended(command.output()).status, None);
    bench
        .run_as("killed", &["--set", "inference.memory_bytes=1"])
        .success();
    ample.assert_equals(&bench.left("killed"), "killed and gone on");
}

/// Commits remove rows of those before. RocksDB keeps what is removed until it writes its buffers
/// to files, hours later where little is committed, and again when it opens the store.
#[test]
fn memory_does_not_grow_with_the_number_of_commits() {
    const MOST: u64 = 300 << 20;
    let bench = Bench::new();
    let config = "name: commits
source: {simulator: {seed: 7, records: 10000, sites: 2, contexts: 1, features: 2}}
tasks: {path: [[season, zone]]}
bootstrap: {records: 100}
labels: {delay: {records: 4}}
epoch: {records: 2}
commit: {epochs: 1}
triggers: {when: []}
";
    bench.write("config.yaml", config);
    for attempt in ["the run", "a start with its state"] {
        let (status, peak) = support::watch_memory(bench.start("run", &[]));
        assert!(status.success(), "{attempt}");
        assert!(peak < MOST, "{attempt} takes {} MiB", peak >> 20);
    }
}
