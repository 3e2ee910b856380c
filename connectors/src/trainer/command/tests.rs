//! Commands as trainers: their input, their output, their failures, and that nothing of them is
//! left.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread;

use arrow::array::{
    ArrayRef, Float32Array, Int32Array, RecordBatch, TimestampMicrosecondArray, UInt64Array,
};
use ndarray::array;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use perennial_operators::{
    LabelKind, ModelId, RetainedSample, TaskId, TrainRequest, TreeParameters,
};
use prost::Message;
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::onnx::protobuf::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, ValueInfoProto,
};
use crate::trainer::Trainer;

/// A schema with a feature that has the name of the column of labels.
fn schema() -> Schema {
    let text = r#"{"id":"id","time":"when","site":"site",
        "features":["label",{"column":"mode","values":["fan","ac"]}],
        "label":{"column":"vote","classes":["low","high"]}}"#;
    serde_json::from_str(text).unwrap()
}

fn samples() -> Vec<RetainedSample> {
    let sample = |sequence, label, features: [f32; 2]| RetainedSample {
        sequence,
        time: 1_700_000_000_000_000 + sequence as i64,
        label,
        features: features.to_vec(),
        weight: 1.0,
    };
    vec![
        sample(3, 1.0, [1.5, 0.0]),
        sample(5, 0.0, [f32::NAN, 1.0]),
        sample(8, 1.0, [-2.0, f32::NAN]),
    ]
}

/// A model of one node with the given number of features.
fn model(operator: &str, features: usize, attribute: Vec<AttributeProto>) -> Vec<u8> {
    let node = NodeProto {
        input: vec!["features".to_owned()],
        output: vec!["probabilities".to_owned()],
        op_type: Some(operator.to_owned()),
        domain: (!attribute.is_empty()).then(|| "ai.onnx.ml".to_owned()),
        attribute,
        ..NodeProto::default()
    };
    let opset = |domain: &str, version| OperatorSetIdProto {
        domain: Some(domain.to_owned()),
        version: Some(version),
    };
    let graph = GraphProto {
        node: vec![node],
        name: Some("test".to_owned()),
        input: vec![ValueInfoProto::rows_of("features", features)],
        output: vec![ValueInfoProto::rows_of("probabilities", 2)],
    };
    let model = ModelProto {
        ir_version: Some(8),
        producer_name: None,
        graph: Some(graph),
        opset_import: vec![opset("", 17), opset("ai.onnx.ml", 3)],
    };
    model.encode_to_vec()
}

/// A model of two trees without branches, whose output is constant.
fn constant(features: usize, probabilities: [f32; 2]) -> Vec<u8> {
    let ints = |name: &str, ints: [i64; 2]| AttributeProto::ints(name, ints.to_vec());
    let attributes = vec![
        ints("nodes_treeids", [0, 1]),
        ints("nodes_nodeids", [0, 0]),
        ints("nodes_featureids", [0, 0]),
        AttributeProto::floats("nodes_values", vec![0.0, 0.0]),
        AttributeProto::strings("nodes_modes", vec![b"LEAF".to_vec(); 2]),
        ints("nodes_truenodeids", [0, 0]),
        ints("nodes_falsenodeids", [0, 0]),
        ints("target_treeids", [0, 1]),
        ints("target_nodeids", [0, 0]),
        ints("target_ids", [0, 1]),
        AttributeProto::floats("target_weights", probabilities.to_vec()),
        AttributeProto::int("n_targets", 2),
    ];
    model("TreeEnsembleRegressor", features, attributes)
}

/// A trainer that runs a shell script, with a folder of the test as $F.
struct Script {
    folder: TempDir,
    trainer: Trainer,
}

fn command(script: &str) -> CommandLine {
    CommandLine {
        program: "sh".into(),
        arguments: vec!["-c".into(), script.into(), "sh".into()],
        timeout: Duration::from_secs(600),
        memory: None,
    }
}

fn script(script: &str) -> Script {
    limited(script, |_| {})
}

fn limited(script: &str, limit: impl FnOnce(&mut CommandLine)) -> Script {
    let folder = TempDir::new().unwrap();
    let mut line = command(&format!("F={}\n{script}", folder.path().display()));
    limit(&mut line);
    let trainings = folder.path().join("trainings");
    let runtime = Runtime::load().unwrap();
    let trainer = CommandTrainer::new(line, schema(), trainings, runtime).unwrap();
    let script = Script {
        folder,
        trainer: Trainer::Command(Box::new(trainer)),
    };
    script.write("good.onnx", &constant(2, [0.25, 0.75]));
    script
}

impl Script {
    fn write(&self, name: &str, content: &[u8]) {
        fs::write(self.folder.path().join(name), content).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).unwrap()
    }

    /// Trains on the samples, and checks that no file is left.
    fn train(&self) -> Result<Trained, TrainerError> {
        let samples = samples();
        let features = samples.iter().flat_map(|sample| sample.features.clone());
        let request = TrainRequest {
            features: Array2::from_shape_vec((3, 2), features.collect()).unwrap(),
            labels: samples.iter().map(|sample| sample.label).collect(),
            kind: LabelKind::Classes(2),
            weights: Some(vec![0.5, 2.0, 0.5]),
            margins: None,
            parameters: TreeParameters::default(),
        };
        let trained = self.trainer.train(&Job {
            model: ModelId {
                task: TaskId(7),
                version: 4,
            },
            task: "site=a",
            samples: &samples,
            request: &request,
            from: None,
            limit: None,
        });
        let left = fs::read_dir(self.folder.path().join("trainings")).unwrap();
        assert_eq!(left.count(), 0);
        trained
    }

    fn failure(&self) -> String {
        self.train().unwrap_err().to_string()
    }

    /// Whether the process whose id the script wrote to the file `process` has ended.
    fn has_ended(&self) -> bool {
        let process = self.read("process");
        let status = fs::read_to_string(format!("/proc/{}/stat", process.trim()));
        status.map_or(true, |status| status.contains(") Z "))
    }

    /// Waits for the process to end.
    fn wait_for_end(&self) {
        while !self.has_ended() {
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits for the script to write the id of a process.
    fn wait_for_begin(&self) {
        let file = self.folder.path().join("process");
        while !fs::read(&file).is_ok_and(|text| text.ends_with(b"\n")) {
            thread::sleep(Duration::from_millis(2));
        }
        assert!(!self.has_ended());
    }
}

#[test]
fn a_model_and_its_metrics_are_taken() {
    let script = script(
        r#"cp "$F/good.onnx" model.onnx; echo '{"loss": 0.5, "rounds": 20}' > metrics.json
        mkdir -p deep/er; echo much on stdout; echo much >&2"#,
    );
    let trained = script.train().unwrap();
    assert_eq!(trained.onnx, constant(2, [0.25, 0.75]));
    assert_eq!(trained.hash, blake3::hash(&trained.onnx).to_hex().as_str());
    assert_eq!(trained.deviation, 0.0);
    let metrics = [("loss".to_owned(), 0.5), ("rounds".to_owned(), 20.0)];
    assert_eq!(trained.metrics, BTreeMap::from(metrics));
    assert!(!script.trainer.warm_starts());
    // The trainer leaves nothing either.
    drop(script.trainer);
    assert!(!script.folder.path().join("trainings").exists());
}

#[test]
fn the_request_and_the_samples_say_all() {
    let script = script(
        r#"cp "$1" "$F/request.json"; cp samples.parquet "$F"; pwd > "$F/folder"
        cp "$F/good.onnx" model.onnx; cat > "$F/stdin""#,
    );
    script.train().unwrap();
    let folder = script.read("folder").trim().to_owned();
    let request: serde_json::Value = serde_json::from_str(&script.read("request.json")).unwrap();
    let expected = json!({
        "version": 1,
        "task": {"id": "0000000000000007", "name": "site=a", "version": 4},
        "features": [{"name": "label"}, {"name": "mode", "values": ["fan", "ac"]}],
        "kind": "classes",
        "classes": ["low", "high"],
        "samples": {
            "path": format!("{folder}/samples.parquet"), "count": 3,
            "label": "_label", "weight": "weight", "time": "time", "sequence": "sequence",
        },
        "settings": {
            "rounds": 60, "max_depth": 5, "eta": 0.1, "min_child_weight": 5.0,
            "subsample": 0.8, "colsample_bytree": 0.8, "lambda": 1.0, "seed": 1,
        },
        "model": format!("{folder}/model.onnx"),
        "metrics": format!("{folder}/metrics.json"),
    });
    assert_eq!(request, expected);
    let file = File::open(script.folder.path().join("samples.parquet")).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let tables: Vec<RecordBatch> = reader.build().unwrap().map(Result::unwrap).collect();
    let micros = |part: i64| 1_700_000_000_000_000 + part;
    let times = TimestampMicrosecondArray::from(vec![micros(3), micros(5), micros(8)]);
    let expected: [(&str, ArrayRef); 6] = [
        (
            "label",
            Arc::new(Float32Array::from(vec![Some(1.5), None, Some(-2.0)])),
        ),
        (
            "mode",
            Arc::new(Float32Array::from(vec![Some(0.0), Some(1.0), None])),
        ),
        ("_label", Arc::new(Int32Array::from(vec![1, 0, 1]))),
        ("weight", Arc::new(Float32Array::from(vec![0.5, 2.0, 0.5]))),
        ("time", Arc::new(times.with_timezone("UTC"))),
        ("sequence", Arc::new(UInt64Array::from(vec![3, 5, 8]))),
    ];
    assert_eq!(tables, [RecordBatch::try_from_iter(expected).unwrap()]);
    assert_eq!(script.read("stdin"), "");
}

#[test]
fn each_way_to_fail_has_a_sentence() {
    let who = "the trainer's command";
    for (text, expected) in [
        (
            "echo one >&2; echo two >&2; exit 3",
            format!("{who} ended with exit code 3; it said: one / two"),
        ),
        ("exit 127", format!("{who} ended with exit code 127")),
        ("kill -9 $$", format!("signal 9 ended {who}")),
        (
            "echo done >&2",
            format!("{who} ended, but model.onnx is missing; it said: done"),
        ),
        (
            "mkfifo model.onnx",
            format!("{who} ended, but model.onnx is not a file"),
        ),
        (
            "mkdir model.onnx",
            format!("{who} ended, but model.onnx is not a file"),
        ),
        // Larger than a file that a command can write.
        (
            "ln -s \"$F/large\" model.onnx",
            format!(
                "{who} ended, but model.onnx has 300000000 bytes, and more than 268435456 are too many"
            ),
        ),
    ] {
        let script = script(text);
        let large = File::create(script.folder.path().join("large")).unwrap();
        large.set_len(300_000_000).unwrap();
        assert_eq!(script.failure(), expected, "{text}");
    }
    let full = script("head -c 300000000 /dev/zero > model.onnx || exit 5");
    assert_eq!(
        full.failure().split(';').next().unwrap(),
        format!("{who} ended with exit code 5")
    );
    let mut line = command("");
    line.program = "/nowhere/program".into();
    let missing = limited("", |limits| *limits = line);
    assert!(missing.failure().starts_with(&format!(
        "{who} /nowhere/program does not start: No such file"
    )));
}

#[test]
fn models_that_do_not_fit_are_refused() {
    let ones = AttributeProto::floats("coefficients", vec![1.0; 4]);
    let linear = vec![
        ones,
        AttributeProto::floats("intercepts", vec![0.0; 2]),
        AttributeProto::int("targets", 2),
        AttributeProto::string("post_transform", "SOFTMAX"),
    ];
    for (onnx, expected) in [
        (b"garbage".to_vec(), "the ONNX model does not load: "),
        (
            constant(3, [0.25, 0.75]),
            "the ONNX model does not fit: its input is \"features\"",
        ),
        (
            constant(2, [0.5, 0.6]),
            "for row 0 of the samples its probabilities add up to 1.1 and not to 1",
        ),
        (
            constant(2, [-0.5, 1.5]),
            "for row 0 of the samples it gives -0.5 for class 0, which is no probability",
        ),
        (
            constant(2, [f32::NAN, 0.5]),
            "for row 0 of the samples it gives NaN for class 0",
        ),
        // The second sample is the first with a missing value.
        (
            model("LinearRegressor", 2, linear),
            "for row 1 of the samples it gives NaN for class 0",
        ),
    ] {
        let script = script("cp \"$F/bad.onnx\" model.onnx; echo so it is >&2");
        script.write("bad.onnx", &onnx);
        let sentence = script.failure();
        let start =
            format!("the trainer's command ended, but model.onnx is not usable: {expected}");
        assert!(sentence.starts_with(&start), "{sentence}");
        assert!(sentence.ends_with("; it said: so it is"), "{sentence}");
    }
}

#[test]
fn a_model_that_lacks_an_answer_for_no_features_at_all_is_refused() {
    // This gives probabilities if no feature is missing.
    let onnx = model("Softmax", 2, Vec::new());
    let script = script("");
    let Trainer::Command(trainer) = &script.trainer else {
        panic!("a command");
    };
    let request = TrainRequest {
        features: array![[1.0, 2.0]],
        labels: vec![1.0],
        kind: LabelKind::Classes(2),
        weights: None,
        margins: None,
        parameters: TreeParameters::default(),
    };
    let samples = [samples().remove(0)];
    let job = Job {
        model: ModelId {
            task: TaskId::BASE,
            version: 1,
        },
        task: "base",
        samples: &samples,
        request: &request,
        from: None,
        limit: None,
    };
    let reason = trainer.check(&onnx, &job).unwrap_err();
    let expected = "for a sample whose features are all missing (NaN) it gives NaN for class 0, which is no probability";
    assert_eq!(reason, expected);
}

#[test]
fn metrics_that_are_not_numbers_are_refused() {
    for (text, expected) in [
        ("[1]", "is not an object of numbers: "),
        (r#"{"a": "b"}"#, "is not an object of numbers: "),
        (r#"{"a": NaN}"#, "is not an object of numbers: "),
        ("", "is not an object of numbers: "),
        (
            &" ".repeat(20_000),
            "has 20000 bytes, and more than 16384 are too many",
        ),
    ] {
        let script = script("cp \"$F/good.onnx\" model.onnx; cp \"$F/metrics\" metrics.json");
        script.write("metrics", text.as_bytes());
        let sentence = script.failure();
        let start = format!("the trainer's command ended, but metrics.json {expected}");
        assert!(sentence.starts_with(&start), "{sentence}");
    }
}

/// A script that starts a process of an hour and writes its id.
const CHILD: &str = "sleep 3600 & echo $! > \"$F/process\"\n";

#[test]
fn a_command_that_takes_too_long_is_killed_with_its_children() {
    let script = limited(&format!("{CHILD}echo on my way >&2; wait"), |limits| {
        limits.timeout = Duration::from_secs(1);
    });
    let expected = "the trainer's command was killed: it took longer than 1s; it said: on my way";
    assert_eq!(script.failure(), expected);
    script.wait_for_end();
}

#[test]
fn children_end_with_their_command() {
    let script = script(&format!("{CHILD}cp \"$F/good.onnx\" model.onnx"));
    script.train().unwrap();
    script.wait_for_end();
}

#[test]
fn cancel_ends_commands_and_their_children_and_refuses_new_ones() {
    let script = script(&format!("{CHILD}wait"));
    thread::scope(|scope| {
        let running = scope.spawn(|| script.train());
        script.wait_for_begin();
        script.trainer.cancel().cancel();
        let error = running.join().unwrap().unwrap_err();
        assert!(matches!(error, TrainerError::Cancelled), "{error:?}");
    });
    script.wait_for_end();
    let error = script.train().unwrap_err();
    assert!(matches!(error, TrainerError::Cancelled), "{error:?}");
}

#[test]
fn memory_has_a_limit() {
    // The shell keeps in memory what it has read.
    let hungry = "held=$(head -c 200000000 /dev/zero | tr '\\0' x) || exit 5; cp \"$F/good.onnx\" model.onnx";
    let limit = |bytes| limited(hungry, move |limits| limits.memory = Some(bytes));
    limit(4 << 30).train().unwrap();
    let sentence = limit(64 << 20).failure();
    assert!(
        sentence.contains("the trainer's command (limited to 64 MiB)"),
        "{sentence}"
    );
}

#[test]
fn little_of_the_environment_is_passed_on() {
    // Cargo sets many more variables for this test.
    let script =
        script("cat /proc/$$/environ > \"$F/environment\"; cp \"$F/good.onnx\" model.onnx");
    script.train().unwrap();
    let found = script.read("environment");
    let found = found
        .split_terminator('\0')
        .map(|pair| pair.split('=').next().unwrap());
    let found: BTreeSet<&str> = found.collect();
    let own = ["TMPDIR", "OMP_NUM_THREADS"];
    let expected = ENVIRONMENT
        .into_iter()
        .filter(|name| std::env::var_os(name).is_some());
    assert_eq!(found, expected.chain(own).collect());
}

#[test]
fn what_a_killed_process_left_is_removed() {
    let folder = TempDir::new().unwrap();
    let trainings = folder.path().join("trainings");
    fs::create_dir_all(trainings.join("training-x/y")).unwrap();
    let runtime = Runtime::load().unwrap();
    let trainer = CommandTrainer::new(command(""), schema(), trainings.clone(), runtime).unwrap();
    assert_eq!(fs::read_dir(&trainings).unwrap().count(), 0);
    drop(trainer);
    let runtime = Runtime::load().unwrap();
    fs::write(&trainings, "a file").unwrap();
    let error = CommandTrainer::new(command(""), schema(), trainings, runtime).unwrap_err();
    assert!(matches!(error, TrainerError::Folder { .. }), "{error:?}");
}
