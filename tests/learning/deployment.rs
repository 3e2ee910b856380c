//! Learning: how models are built, and which are deployed: by review, by hand, and by the gate.

use std::collections::BTreeSet;

use serde_json::Value;
use support::stream::{self, Sample};
use support::{Bench, version};

/// The changes of one kind, such as `model_deployed`.
fn changes(bench: &Bench, name: &str, kind: &str) -> Vec<Value> {
    let changes = support::lines(bench.kb(name, &["changes"]).as_bytes());
    let of_kind = changes
        .iter()
        .filter_map(|change| change["change"].get(kind));
    of_kind.cloned().collect()
}

/// A stream whose labels are inverted for a while.
fn turned_for_a_while() -> Vec<Sample> {
    let (half, count) = (2000, 4000);
    let mut samples = stream::samples(61, count, 0.0)[..half].to_vec();
    samples.extend_from_slice(&stream::samples(62, count, 0.0)[half..half + 900]);
    samples.extend_from_slice(&stream::samples(63, count, 0.0)[..half]);
    for (number, sample) in samples.iter_mut().enumerate() {
        sample.id = format!("r{number}");
        sample.time = 1_700_000_000 + number as i64 * 60;
    }
    samples
}

#[test]
fn worse_model_is_rolled_back() {
    let bench = Bench::new();
    bench.write("stream.csv", stream::csv(&turned_for_a_while()));
    let config = stream::config("stream.csv", "records: 10");
    bench.write("config.yaml", config.replace(">= 600", ">= 300"));
    bench.run_as("one", &[]).success();
    bench.run_as("two", &["--workers", "2"]).success();
    bench
        .left("one")
        .assert_equals(&bench.left("two"), "two workers");
    let rolled_back = changes(&bench, "one", "model_rolled_back");
    assert!(!rolled_back.is_empty());
    let deployed = changes(&bench, "one", "model_deployed");
    for change in &rolled_back {
        let (task, to) = (&change["model"]["task"], &change["to"]);
        assert!(
            to.as_u64() < change["model"]["version"].as_u64(),
            "{change}"
        );
        let before =
            |other: &&Value| other["model"]["task"] == *task && other["model"]["version"] == *to;
        assert!(deployed.iter().any(|other| before(&other)), "{change}");
    }
    // Without the inversion hardly anything is rolled back.
    bench.write(
        "calm.csv",
        stream::csv(&stream::samples(61, 8000, 0.0)[..4000]),
    );
    bench
        .run_as("calm", &["--set", "source.path=calm.csv"])
        .success();
    let rolled_back = changes(&bench, "calm", "model_rolled_back");
    assert!(rolled_back.len() <= 1, "{rolled_back:?}");
}

/// Runs until a few models were replaced, and is killed then.
fn killed(bench: &Bench) {
    bench.write("stream.csv", stream::csv(&stream::samples(64, 6000, 0.0)));
    // With slow learning the task has had several models by then.
    let config = stream::config("stream.csv", "records: 10");
    let slow = config.replace("max_depth: 3}", "max_depth: 3, eta: 0.05}");
    bench.write("config.yaml", slow);
    let mut command = bench.pipeline("run", &[]);
    command.env("PERENNIAL_KILL_AT", "commit: after knowledge#14");
    let ended = support::ended(command.output());
    assert_eq!(ended.status, None, "{ended:?}");
}

/// The task that is edited by hand.
const TASK: &str = "season=dry";

/// Its entry in `kb tasks`.
fn task(bench: &Bench) -> Value {
    let tasks = bench.kb_json("run", &["tasks"]);
    let mut tasks = tasks.as_array().expect("tasks").iter();
    let found = tasks.find(|task| task["task"] == TASK);
    found.expect("the task").clone()
}

#[test]
fn manual_rollback_and_pin_are_kept() {
    let bench = Bench::new();
    killed(&bench);
    let before = task(&bench)["model"].as_u64().expect("a model");
    assert!(before > 2, "v{before}");
    let kb = |arguments: &[&str]| bench.run(&[&["kb", "--state", "run"], arguments].concat());
    let said = kb(&["rollback", TASK]).success().stdout;
    let begins = format!("{TASK}: v{before} is rolled back, v2 answers");
    assert!(said.starts_with(&begins), "{said}");
    assert_eq!(task(&bench)["model"], 2);
    kb(&["rollback", TASK, "--to", &before.to_string()]).success();
    assert_eq!(task(&bench)["model"], before);
    kb(&["rollback", TASK, "--to", "1"]).success();
    kb(&["pin", TASK]).success();
    kb(&["pin", TASK]).success();
    assert_eq!(changes(&bench, "run", "task_pinned").len(), 1);
    let tasks = kb(&["tasks"]).success().stdout;
    assert!(tasks.contains("v1 pinned"), "{tasks}");
    let answered = bench.predictions("run").len();
    bench.run_as("run", &[]).success();
    assert_eq!(task(&bench)["model"], 1);
    let verified = kb(&["verify"]).success();
    assert!(verified.stdout.starts_with("sound: "), "{verified:?}");
    let later = &bench.predictions("run")[answered..];
    assert!(later.len() > 1000);
    for line in later {
        let model = line["model"].as_str().expect("a model");
        assert!(
            !model.starts_with("season=dry @") || version(line) == 1,
            "{line}"
        );
    }
    let stages = bench.kb("run", &["stages"]);
    assert!(stages.contains("the task is pinned"), "{stages}");
    kb(&["unpin", TASK]).success();
    assert_eq!(task(&bench)["pinned"], false);
}

#[test]
fn impossible_rollback_is_refused() {
    let bench = Bench::new();
    killed(&bench);
    let kb = |arguments: &[&str]| bench.run(&[&["kb", "--state", "run"], arguments].concat());
    kb(&["rollback", "bass"]).failure(1, &["there is no task \"bass\""]);
    kb(&["rollback", "base", "--to", "77"]).failure(1, &["never had a model v77 deployed"]);
    kb(&["rollback", "base", "--to", "1"]).failure(1, &["at v1 already"]);
    kb(&["rollback", "base"]).failure(1, &["the base task has had no other model"]);
    bench
        .run(&["kb", "--state", "nowhere", "pin", "base"])
        .failure(1, &["there is no knowledge base in nowhere"]);
}

#[test]
fn gate_refuses_harm_to_a_related_task() {
    // A small site of the wet season whose labels follow the dry season's rule.
    let mut samples = stream::samples(65, 8000, 0.0)[..4000].to_vec();
    samples.retain(|sample| sample.site != "s5");
    let dry = samples.iter_mut().filter(|sample| sample.site == "s0");
    for sample in dry.step_by(4) {
        (sample.site, sample.season) = ("s5".to_string(), "wet");
    }
    let bench = Bench::new();
    bench.write("stream.csv", stream::csv(&samples));
    bench.write("config.yaml", stream::config("stream.csv", "records: 10"));
    let refused = |name: &str, margin: &str| {
        let margin = format!("gate.margin={margin}");
        let more = ["--set", &margin, "--set", "training.trees.rounds=40"];
        bench.run_as(name, &more).success();
        let stages = bench.kb(name, &["stages"]);
        let words = "season=wet > site=s5 would get worse by ";
        stages.matches(words).count()
    };
    assert!(refused("strict", "0.05") > 0);
    assert_eq!(refused("open", "100"), 0);
    bench
        .run_as("bad", &["--set", "gate.margin=-1"])
        .failure(2, &["gate.margin", "expected a number of nats from 0 on"]);
}

#[test]
fn candidates_are_the_configured_ones() {
    let bench = Bench::new();
    bench.write("stream.csv", stream::csv(&stream::samples(66, 4000, 0.0)));
    bench.write("config.yaml", stream::config("stream.csv", "records: 10"));
    let built = |name: &str, candidates: &str| {
        let candidates = format!("training.candidates={candidates}");
        bench.run_as(name, &["--set", &candidates]).success();
        let trained = changes(&bench, name, "model_trained");
        let built = trained.iter().map(|trained| {
            let remodeling = &trained["remodeling"];
            let way = match remodeling.as_object() {
                Some(way) => way.keys().next().expect("a way"),
                None => remodeling.as_str().expect("a way"),
            };
            (trained["model"]["task"] == 0, way.to_string())
        });
        built.collect::<BTreeSet<(bool, String)>>()
    };
    let expected = |ways: &[(bool, &str)]| {
        let ways = ways.iter().map(|(base, way)| (*base, way.to_string()));
        ways.collect::<BTreeSet<(bool, String)>>()
    };
    let (scratch, warm) = ((false, "scratch"), (false, "warm_start"));
    let base = (true, "scratch");
    assert_eq!(built("scratch", "[scratch]"), expected(&[base, scratch]));
    assert_eq!(built("warm", "[warm_start]"), expected(&[base, warm]));
    assert_eq!(changes(&bench, "warm", "relation_scored").len(), 0);
    let all = built("all", "[scratch, warm_start, relative, pooled]");
    assert!(all.is_superset(&expected(&[base, warm])), "{all:?}");
    assert!(!changes(&bench, "all", "relation_scored").is_empty());
    let relations = bench.kb_json("all", &["relations"]);
    for relation in relations.as_array().expect("relations") {
        assert_ne!(relation["task"], relation["model_of"]);
        assert!(relation["log_loss"].as_f64() > Some(0.0), "{relation}");
    }
    bench
        .run_as("none", &["--set", "training.candidates=[]"])
        .failure(2, &["training.candidates", "expected at least one of"]);
}

#[test]
fn training_samples_are_bounded() {
    let bench = Bench::new();
    bench.write("stream.csv", stream::csv(&stream::samples(67, 4000, 0.0)));
    bench.write("config.yaml", stream::config("stream.csv", "records: 10"));
    let most = |name: &str, more: &[&str]| {
        bench.run_as(name, more).success();
        let trained = changes(&bench, name, "model_trained");
        let samples = trained.iter().map(|trained| trained["samples"].as_u64());
        samples.max().flatten().expect("trained models")
    };
    assert!(most("free", &[]) > 1000);
    let bound = most("bound", &["--set", "training.max_samples=300"]);
    // Of the 300, a tenth is held back.
    assert!((240..=300).contains(&bound), "{bound}");
}
