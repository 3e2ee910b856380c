//! A bound on tasks: made-up values make no more of them than may be.

use support::Bench;
use support::stream::{self, Sample};

/// Most tasks, and the records of an epoch, by whose tasks the bound may be exceeded.
const MOST: usize = 40;
const EPOCH: usize = 16;

/// Samples of which most have made-up sites, from the one with this number on: a new site after so
/// many samples.
fn samples(count: usize, from: usize, every: usize) -> Vec<Sample> {
    let mut samples = stream::samples(95, count, 0.0);
    for (number, sample) in samples.iter_mut().enumerate().skip(from) {
        if number % 4 > 0 {
            sample.site = format!("made-up-{}", number / every);
        }
    }
    samples
}

fn bench(samples: &[Sample], more: &str) -> Bench {
    let bench = Bench::new();
    bench.write("stream.csv", stream::csv(samples));
    let config = stream::config("stream.csv", "records: 10");
    let config = config.replace(
        "epoch:\n  records: 128",
        &format!("epoch:\n  records: {EPOCH}"),
    );
    let config = config.replace("tasks:\n", &format!("tasks:\n  most: {MOST}\n"));
    bench.write("config.yaml", config + more);
    bench
}

fn tasks(bench: &Bench) -> usize {
    let tasks = bench.kb_json("one", &["tasks"]);
    tasks.as_array().expect("tasks").len()
}

#[test]
fn values_beyond_the_bound_are_answered_by_the_tasks_above() {
    // Some come in the bootstrap.
    let samples = samples(1600, 790, 1);
    let bench = bench(&samples, "");
    let ran = bench.run_as("one", &[]).success();
    bench.run_as("two", &["--workers", "2"]).success();
    bench
        .left("one")
        .assert_equals(&bench.left("two"), "two workers");
    let known = tasks(&bench);
    assert!((MOST..=MOST + EPOCH).contains(&known), "{known}");
    assert_eq!(
        ran.stderr.matches("tasks.most").count(),
        1,
        "{}",
        ran.stderr
    );
    let predictions = bench.predictions("one");
    let last = predictions.iter().rev().find(|prediction| {
        let id = prediction["id"].as_str().expect("an id");
        id.trim_start_matches('r')
            .parse::<usize>()
            .expect("a number")
            % 4
            > 0
    });
    let task = last.expect("a prediction")["task"].as_str();
    assert!(
        matches!(task, Some("season=dry" | "season=wet")),
        "{task:?}"
    );
    // The sites that were known before are answered by their own tasks.
    let first = predictions.iter().rev().find(|prediction| {
        prediction["task"]
            .as_str()
            .is_some_and(|task| task.ends_with("site=s1"))
    });
    assert!(first.is_some());
    let status = ["status", "config.yaml", "--state", "one", "--json"];
    let status = support::json(bench.run(&status).success().stdout.as_bytes());
    assert_eq!(status["tasks"]["defined"], known, "{status}");
    let beyond = samples
        .iter()
        .filter(|sample| sample.site.starts_with("made-up"))
        .count();
    let undefined = status["tasks"]["undefined_samples"]
        .as_u64()
        .expect("a count") as usize;
    // Nine were known before: the base task, two seasons and six sites.
    assert_eq!(undefined, beyond - (known - 9), "{status}");
    // A resumed run keeps the bound.
    let mut command = bench.pipeline("torn", &[]);
    command.env("PERENNIAL_KILL_AT", "commit: after knowledge#20");
    assert_eq!(support::ended(command.output()).status, None);
    bench.run_as("torn", &[]).success();
    bench
        .left("one")
        .assert_equals(&bench.left("torn"), "a resumed run");
}

#[test]
fn groups_of_unseen_samples_keep_the_bound() {
    let samples = samples(2400, 820, 24);
    let bench = bench(&samples, "unseen:\n  methods: [attributes]\n");
    bench.run_as("one", &[]).success();
    let known = tasks(&bench);
    assert!((MOST - 5..=MOST).contains(&known), "{known}");
    let verified = bench.run(&["kb", "--state", "one", "verify"]).success();
    assert!(verified.stdout.starts_with("sound: "), "{verified:?}");
}
