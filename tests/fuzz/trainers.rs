//! What trainers answer: the built-in one, and a command.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use ndarray::{Array2, array};
use perennial_connectors::onnx::{self, Runtime};
use perennial_connectors::trainer::{BuiltIn, CommandLine, CommandTrainer, Job};
use perennial_operators::{
    ModelId, RetainedSample, TaskId, TrainRequest, TrainResponse, TreeParameters,
};

use crate::files::schema;
use crate::harness::Subject;
use crate::models::{FEATURES, KIND};
use crate::mutate;

/// A model in XGBoost's format: a tree of a split, and one of a leaf.
pub const BOOSTER: &str = r#"{"learner":{
    "gradient_booster":{"name":"gbtree","model":{"tree_info":[0,2],"trees":[
        {"left_children":[1,-1,-1],"right_children":[2,-1,-1],"split_indices":[2,0,0],
         "split_conditions":[5E-1,1E-1,-2E-1],"default_left":[1,0,0],"categories_nodes":[],
         "tree_param":{"size_leaf_vector":"1"}},
        {"left_children":[-1],"right_children":[-1],"split_indices":[0],
         "split_conditions":[2.5E-1],"default_left":[0]}]}},
    "learner_model_param":{"base_score":"[5E-1,5E-1,5E-1]","num_class":"3","num_feature":"4"},
    "objective":{"name":"multi:softprob"}},"version":[3,2,0]}"#;

/// Between metrics and model in the answer of a command.
const BETWEEN: &[u8] = b"\n--\n";

fn tokens() -> Vec<&'static str> {
    let mut tokens = mutate::TEXT.to_vec();
    tokens.extend([
        "gblinear",
        "dart",
        "[5E-1]",
        "[]",
        "-1",
        "\"trees\":",
        "\"3\"",
        "1E39",
    ]);
    tokens
}

/// The booster in an answer, which becomes a model.
pub fn booster() -> Subject {
    onnx::convert(BOOSTER.as_bytes(), FEATURES, KIND).expect("a valid seed");
    Subject {
        seeds: vec![BOOSTER.into()],
        tokens: tokens(),
        decode: Box::new(|input| onnx::convert(input, FEATURES, KIND).is_ok()),
    }
}

fn samples() -> Vec<RetainedSample> {
    let sample = |sequence: u64, features: [f32; FEATURES]| RetainedSample {
        sequence,
        time: 0,
        label: sequence as f32,
        features: features.to_vec(),
        weight: 1.0,
    };
    vec![
        sample(0, [0.0, 1.0, 0.0, 1.0]),
        sample(1, [f32::NAN; FEATURES]),
        sample(2, [2.0, 0.0, 3.0, 0.0]),
    ]
}

fn request() -> TrainRequest {
    let samples = samples();
    let values = samples
        .iter()
        .flat_map(|sample| sample.features.clone())
        .collect();
    TrainRequest {
        features: Array2::from_shape_vec((samples.len(), FEATURES), values).expect("a matrix"),
        labels: samples.iter().map(|sample| sample.label).collect(),
        kind: KIND,
        weights: None,
        margins: None,
        parameters: TreeParameters {
            rounds: 1,
            max_depth: 1,
            eta: 0.3,
            min_child_weight: 1.0,
            subsample: 1.0,
            colsample_bytree: 1.0,
            lambda: 1.0,
            seed: 7,
        },
    }
}

/// The answer of the training program, which a script gives in its place.
pub fn answer() -> Subject {
    let folder = tempfile::tempdir().expect("a folder");
    let (script, answer) = (folder.path().join("trainer"), folder.path().join("answer"));
    let text = format!("#!/bin/sh\nexec cat {}\n", answer.display());
    fs::write(&script, text).expect("a script");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o700)).expect("a script");
    let runtime = Runtime::load().expect("ONNX Runtime");
    let trainer = BuiltIn::new(script, None, runtime);
    let request = request();
    let trained = TrainResponse::Trained {
        model: BOOSTER.into(),
        answers: array![[0.3, 0.3, 0.4], [0.3, 0.3, 0.4], [0.3, 0.3, 0.4]],
    };
    let answers = [trained, TrainResponse::Failed("no".into())];
    Subject {
        seeds: answers
            .map(|answer| postcard::to_stdvec(&answer).expect("bytes"))
            .to_vec(),
        tokens: tokens(),
        decode: Box::new(move |input| {
            let _ = &folder;
            fs::write(&answer, input).expect("a file");
            trainer.train(&request, None).is_ok()
        }),
    }
}

/// The files that a command writes: metrics, and a model.
pub fn command() -> Subject {
    let folder = tempfile::tempdir().expect("a folder");
    let [metrics, model] = ["metrics", "model"].map(|name| folder.path().join(name));
    let script = format!(
        "cp {} metrics.json; cp {} model.onnx",
        metrics.display(),
        model.display()
    );
    let command = CommandLine {
        program: "sh".into(),
        arguments: vec!["-c".into(), script.into()],
        timeout: Duration::from_secs(30),
        memory: None,
    };
    let runtime = Runtime::load().expect("ONNX Runtime");
    let trainer = CommandTrainer::new(command, schema(), folder.path().join("trainings"), runtime);
    let trainer = trainer.expect("a trainer");
    let (samples, request) = (samples(), request());
    let onnx = onnx::convert(BOOSTER.as_bytes(), FEATURES, KIND).expect("a model");
    let seed = [br#"{"accuracy":0.9,"loss":1e-3,"n":3}"#, BETWEEN, &onnx].concat();
    let train = move |input: &[u8]| {
        let _ = &folder;
        let between = input
            .windows(BETWEEN.len())
            .position(|bytes| bytes == BETWEEN);
        let at = between.unwrap_or(input.len());
        fs::write(&metrics, &input[..at]).expect("a file");
        fs::write(&model, input.get(at + BETWEEN.len()..).unwrap_or_default()).expect("a file");
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
        trainer.train(&job)
    };
    train(&seed).expect("a valid seed");
    Subject {
        seeds: vec![seed],
        tokens: tokens(),
        decode: Box::new(move |input| train(input).is_ok()),
    }
}
