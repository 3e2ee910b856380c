//! Trainings side by side: in live mode a slow or hanging training holds up no other task.

use rocksdb::{DB, IteratorMode, Options};
use serde_json::Value;
use support::stream;
use support::{Bench, text};

/// Samples of the stream: long enough for several trainings of the base task.
const SAMPLES: usize = 6000;

/// A stream whose models are fitted by a shell script. It begins with `script`, which finds the
/// request without blanks in `$told`, and otherwise copies a model that the built-in trainer made.
fn bench(script: &str) -> Bench {
    let bench = Bench::new();
    bench.write(
        "stream.csv",
        stream::csv(&stream::samples(81, SAMPLES, 0.0)),
    );
    let config = stream::config("stream.csv", "records: 10");
    bench.write("config.yaml", &config);
    bench.write("short.csv", stream::csv(&stream::samples(81, 900, 0.0)));
    bench
        .run_as("first", &["--set", "source.path=short.csv"])
        .success();
    bench.write("model.onnx", any_model(&bench));
    let folder = bench.path("");
    let (folder, copy) = (text(&folder), "cp \"$here/model.onnx\" model.onnx");
    bench.write(
        "train.sh",
        format!("here={folder}\ntold=$(tr -d ' \\n' < \"$1\")\n{script}\n{copy}\n"),
    );
    bench.write(
        "config.yaml",
        config.replace(
            "training:\n",
            "training:\n  trainer: {command: [sh, train.sh]}\n",
        ),
    );
    bench
}

/// A model of the run `first`.
fn any_model(bench: &Bench) -> Vec<u8> {
    let path = bench.path("first/knowledge");
    let options = Options::default();
    let db = DB::open_cf_for_read_only(&options, path, ["onnx"], false).expect("a store");
    let family = db.cf_handle("onnx").expect("a column family");
    let first = db.iterator_cf(family, IteratorMode::Start).next();
    first.expect("a model").expect("an entry").1.into_vec()
}

const LIVE: [&str; 6] = [
    "--set",
    "mode=live",
    "--set",
    "source.rate=2000",
    "--set",
    "training.threads=2",
];

/// The training of a version of a task's model.
fn training(bench: &Bench, task: &str, version: u64) -> Value {
    let stages = bench.kb_json("run", &["stages"]);
    let mut stages = stages.as_array().expect("stages").iter();
    let is_it = |stage: &&Value| {
        stage["stage"] == "train" && stage["task"] == task && stage["version"] == version
    };
    stages.find(is_it).expect("the training").clone()
}

#[test]
fn slow_training_does_not_hold_up_other_tasks() {
    // The training of the season ends only if the fourth of the base task runs meanwhile.
    let bench = bench(
        "case $told in
*'\"name\":\"season=dry\",\"version\":2'*)
    tries=0
    until [ -e \"$here/go\" ]; do
        tries=$((tries + 1))
        [ $tries -lt 600 ] || exit 9
        sleep 0.05
    done ;;
*'\"name\":\"base\",\"version\":4'*) touch \"$here/go\" ;;
esac",
    );
    bench.run_as("run", &LIVE).success();
    let slow = training(&bench, "season=dry", 2);
    assert_eq!(slow["state"], "completed", "{slow}");
    let verified = bench.run(&["kb", "--state", "run", "verify"]).success();
    assert!(verified.stdout.starts_with("sound: "), "{verified:?}");
}

#[test]
fn hanging_training_is_ended_with_its_whole_order() {
    let bench = bench(
        "case $told in
*'\"name\":\"season=dry\",\"version\":2'*) echo >> \"$here/tries\"; exec sleep 600 ;;
esac",
    );
    let limit = ["--set", "training.timeout=1s"];
    bench
        .run_as("run", &[LIVE.as_slice(), &limit].concat())
        .success();
    let ended = training(&bench, "season=dry", 2);
    assert_eq!(ended["state"], "failed", "{ended}");
    let why = ended["detail"].as_str().expect("a reason");
    assert!(why.contains("training.timeout"), "{why}");
    // No other candidate of the order was begun.
    assert_eq!(bench.read("tries"), b"\n");
    // Trainings of other tasks went on.
    assert_eq!(training(&bench, "base", 4)["state"], "completed");
    let status = ["status", "config.yaml", "--state", "run", "--json"];
    let status = support::json(bench.run(&status).success().stdout.as_bytes());
    assert_eq!(status["trainings"], 0, "{status}");
    assert_eq!(status["oldest_training"], Value::Null, "{status}");
}

#[test]
fn status_has_the_age_of_the_oldest_order() {
    let bench =
        bench("case $told in *'\"version\":2,'*|*'\"version\":2}'*) exec sleep 600 ;; esac");
    let mut running = bench.start("run", &LIVE);
    let command = ["status", "config.yaml", "--state", "run", "--json"];
    let status = loop {
        let read = bench.run(&command);
        if read.status == Some(0) {
            let status = support::json(read.stdout.as_bytes());
            if status["trainings"].as_u64() > Some(0)
                && status["commit"]["samples"].as_u64() > Some(1500)
            {
                break status;
            }
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    };
    running.kill().expect("a signal");
    running.wait().expect("an end");
    assert!(status["oldest_training"].as_f64() >= Some(0.0), "{status}");
}
