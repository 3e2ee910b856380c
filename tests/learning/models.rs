//! Models that do not load any more, or fail for a sample: what answers above takes their place.

use std::collections::BTreeMap;
use std::sync::Arc;

use perennial_connectors::knowledge_base::{KnowledgeBase, OutboxWrite};
use perennial_operators::ModelId;
use perennial_operators::flow::{Effect, EpochEffects, KnowledgeChange, ModelTrained, Remodeling};

use serde_json::Value;

use support::stream::{self, Sample};
use support::{Bench, onnx};

/// Numbers of features and classes of the stream.
const SIZES: (usize, usize) = (4, 3);
/// A version that no training has reached.
const PLANTED: u32 = 99;

/// A folder with a config, its stream, and a run `run` that was killed after `commits` commits.
fn killed(commits: u32) -> Bench {
    let bench = Bench::new();
    bench.write("stream.csv", stream::csv(&stream::samples(31, 3000, 0.0)));
    bench.write("config.yaml", stream::config("stream.csv", "records: 300"));
    let mut command = bench.pipeline("run", &[]);
    let point = format!("commit: after knowledge#{commits}");
    command.env("PERENNIAL_KILL_AT", point);
    assert_eq!(support::ended(command.output()).status, None);
    bench
}

/// Deploys a model for a task in the state of the run, as if this had been learned.
fn plant(bench: &Bench, task: &str, onnx: Vec<u8>) {
    let knowledge = KnowledgeBase::open_to_edit(&bench.path("run")).expect("a state");
    let view = knowledge.view();
    let tasks = view.tasks().expect("tasks");
    let named = tasks
        .values()
        .find(|record| &*record.definition.name == task);
    let model = ModelId {
        task: named.expect("the task").definition.task,
        version: PLANTED,
    };
    let hash = blake3::hash(&onnx).to_hex().to_string();
    let trained = ModelTrained {
        model,
        hash: hash.clone(),
        bytes: onnx.len() as u64,
        samples: 1,
        latest: 0,
        remodeling: Remodeling::Scratch,
    };
    let effects = vec![
        Effect::Change(KnowledgeChange::ModelTrained(trained)),
        Effect::Change(KnowledgeChange::ModelDeployed { model }),
        Effect::Model(hash, Arc::new(onnx)),
    ];
    let mut progress = view.progress().expect("progress");
    progress.epoch = progress.next_epoch();
    progress.changes += 2;
    let effects = EpochEffects::gather(progress.epoch, effects);
    knowledge
        .commit(&[effects], &progress, &OutboxWrite::default())
        .expect("a commit");
}

#[test]
fn model_that_does_not_load_is_retired_at_the_start() {
    let (features, classes) = SIZES;
    let bench = killed(4);
    for task in ["base", "season=dry"] {
        plant(&bench, task, onnx::unknown_operator(features, classes));
    }
    let said = bench.run_as("run", &[]).success().stderr;
    for words in [
        "rolled back a model that does not load",
        "retired a model that does not load",
    ] {
        assert_eq!(said.matches(words).count(), 1, "{said}");
    }
    assert!(said.contains("OperatorOfTheFuture"), "{said}");
    let left = bench.left("run");
    assert_eq!(left.report["records"], 3000, "{}", left.report);
    // The next start has nothing left to tell.
    let again = bench.run_as("run", &[]).success().stderr;
    assert!(!again.contains("does not load"), "{again}");
}

#[test]
fn run_ends_with_a_sentence_if_no_base_model_loads() {
    let (features, classes) = SIZES;
    // In the bootstrap: there is no other model yet.
    let bench = killed(1);
    plant(&bench, "base", onnx::unknown_operator(features, classes));
    let words = [
        "the base task's model (version 99) does not load, nor does any earlier one",
        "ORT_DYLIB_PATH",
        "OperatorOfTheFuture",
    ];
    bench.run_as("run", &[]).failure(1, &words);
}

/// A config whose trainer is a script that copies `base.onnx`, or `dry.onnx` for the dry season.
fn write_copied(bench: &Bench) {
    let script = "case $(cat $1) in\n*'\"name\": \"season=dry'*) model=dry ;;\n\
                  *'\"name\":\"season=dry'*) model=dry ;;\n*) model=base ;;\nesac\n\
                  cp $0.$model.onnx model.onnx\n";
    bench.write("train.sh", script);
    let config = stream::config("stream.csv", "records: 300");
    let trainer = "training:\n  trainer: {command: [sh, train.sh]}\n";
    bench.write("config.yaml", config.replace("training:\n", trainer));
}

/// The stream, with a sample of the dry season at its end whose first feature is beyond measure.
fn with_outlier(count: usize) -> Vec<Sample> {
    let mut samples = stream::samples(37, 2 * count, 0.0);
    samples.truncate(count);
    let dry = samples.iter().rposition(|sample| sample.season == "dry");
    samples[dry.expect("one of the dry season")].numbers[0] = Some(1000.0);
    samples
}

#[test]
fn model_that_fails_for_a_sample_is_retired() {
    let bench = Bench::new();
    let (features, classes) = SIZES;
    write_copied(&bench);
    let even = vec![1.0 / classes as f32; classes];
    bench.write("train.sh.base.onnx", onnx::constant(features, &even));
    let dry = onnx::fails_from(900.0, features, &[0.7, 0.2, 0.1], &[0.1, 0.4, 0.5]);
    bench.write("train.sh.dry.onnx", dry);
    let mut samples = with_outlier(3000);
    let outlier = samples
        .iter()
        .find(|sample| sample.numbers[0] == Some(1000.0));
    let outlier = outlier.expect("it").id.clone();
    // Some samples follow it, so that the next epochs are seen.
    samples.extend(
        stream::samples(38, 2000, 0.0)[..1000]
            .iter()
            .map(|sample| Sample {
                id: format!("later-{}", sample.id),
                ..sample.clone()
            }),
    );
    bench.write("stream.csv", stream::csv(&samples));
    let ended = bench.run_as("one", &["--workers", "1"]).success();
    assert_eq!(
        ended.stderr.matches("retired a model that failed").count(),
        1,
        "{ended:?}"
    );
    let one = bench.left("one");
    bench.run_as("two", &["--workers", "2"]).success();
    one.assert_equals(&bench.left("two"), "two workers");
    // Every sample has an answer; that of the outlier is of the base model.
    let predictions = bench.predictions("one");
    assert_eq!(predictions.len(), samples.len() - 800);
    let of_outlier = predictions.iter().find(|it| it["id"] == outlier.as_str());
    let of_outlier = &of_outlier.expect("a prediction")["probabilities"];
    let values = of_outlier.as_object().expect("probabilities").values();
    let sum: f64 = values.filter_map(serde_json::Value::as_f64).sum();
    assert!((sum - 1.0).abs() < 0.01, "{of_outlier}");
    let changes = bench.run(&["kb", "--state", "one", "changes"]).success();
    let retired = changes.stdout.matches("model retired: season=dry").count();
    assert!(retired > 0, "{}", changes.stdout);
}

/// Longest chain of warm starts that leads to a model.
fn longest_chain(models: &[Value]) -> usize {
    let mut chains: BTreeMap<String, usize> = BTreeMap::new();
    let mut longest = 0;
    // A model starts from one that was trained before it, and versions of a task are in order; a
    // few passes find what starts from other tasks.
    for _ in 0..models.len().min(20) {
        for model in models {
            let trained = &model["trained"];
            let from = &trained["remodeling"]["warm_start"]["from"];
            let chain = match from.is_null() {
                true => 0,
                false => 1 + chains.get(&from.to_string()).copied().unwrap_or(0),
            };
            chains.insert(trained["model"].to_string(), chain);
            longest = longest.max(chain);
        }
    }
    longest
}

#[test]
fn chain_of_warm_starts_is_bounded() {
    let bench = Bench::new();
    let config = support::simulator(20_000, "records: 100");
    let config = config.replace("{rounds: 10, max_depth: 3}", "{rounds: 1, max_depth: 3}");
    let config = config.replace(
        "  min_samples: 100\n",
        "  min_samples: 100\n  candidates: [warm_start, relative]\n",
    );
    bench.write("config.yaml", config);
    bench.run_as("run", &[]).success();
    let models = bench.kb_json("run", &["models"]);
    let chain = longest_chain(models.as_array().expect("models"));
    // Each adds as many trees as a model from scratch has, and four times as many are the most.
    assert!((2..=3).contains(&chain), "{chain}");
}
