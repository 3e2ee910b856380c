//! Training models of numeric labels, built in and by a command.

use std::fs;
use std::time::Duration;

use ndarray::Array2;
use perennial_connectors::onnx::Runtime;
use perennial_connectors::schema::Schema;
use perennial_connectors::trainer::{CommandLine, CommandTrainer, Job, TrainerError};
use perennial_operators::{
    LabelKind, ModelId, RetainedSample, TaskId, TrainRequest, TreeParameters,
};

use crate::support::{random, trainer};

const FEATURES: usize = 6;

/// Samples whose label depends on the first features, with some noise and many missing values.
fn request(rows: usize, offset: f32, size: f32, missing: f32, depth: u32) -> TrainRequest {
    let mut next = random(rows as u64 + u64::from(depth));
    let mut features = Array2::from_shape_simple_fn((rows, FEATURES), || next() * 10.0 - 5.0);
    let labels = features.rows().into_iter().map(|row| {
        let score = row[0] + row[5] * row[3] * 0.3 + next();
        offset + score * size
    });
    let labels = labels.collect();
    features.mapv_inplace(|value| if next() < missing { f32::NAN } else { value });
    TrainRequest {
        features,
        labels,
        kind: LabelKind::Number,
        weights: None,
        margins: None,
        parameters: TreeParameters {
            rounds: 30,
            max_depth: depth,
            eta: 0.3,
            min_child_weight: 1.0,
            ..TreeParameters::default()
        },
    }
}

/// The RMSE of a model.
fn rmse(onnx: &[u8], request: &TrainRequest) -> f32 {
    let mut session = Runtime::load().unwrap().session(onnx, FEATURES, 1).unwrap();
    let mut found = Array2::zeros((request.features.nrows(), 1));
    session
        .predict(request.features.view(), found.view_mut())
        .unwrap();
    let squares = found.iter().zip(&request.labels);
    let sum: f32 = squares.map(|(said, label)| (said - label).powi(2)).sum();
    (sum / found.len() as f32).sqrt()
}

#[test]
fn numbers_equal_xgboosts() {
    // Otherwise the training fails.
    for (offset, size) in [(0.0, 1.0), (-5e4, 1.0), (1e-6, 1e-6), (0.0, 1e12)] {
        for depth in [1, 3, 8] {
            let request = request(400, offset, size, depth as f32 * 0.06, depth);
            let trained = trainer().train(&request, None).unwrap();
            assert!(
                rmse(&trained.onnx, &request) < 4.0 * size,
                "{offset} {size}"
            );
        }
    }
}

#[test]
fn warm_start_corrects_numbers() {
    let first = request(600, 300.0, 2.0, 0.1, 3);
    let from = trainer().train(&first, None).unwrap();
    let mut second = first.clone();
    second
        .labels
        .iter_mut()
        .for_each(|label| *label = *label * 0.5 + 90.0);
    let before = rmse(&from.onnx, &second);
    let warm = trainer().warm_start(&from.onnx, &second, None).unwrap();
    assert!(rmse(&warm.onnx, &second) < 0.5 * before);
    let again = trainer().warm_start(&warm.onnx, &second, None).unwrap();
    assert!(rmse(&again.onnx, &second) < rmse(&warm.onnx, &second));
    // A model of classes is refused.
    let mut classes = first.clone();
    classes.kind = LabelKind::Classes(2);
    classes
        .labels
        .iter_mut()
        .for_each(|label| *label = f32::from(u8::from(*label > 300.0)));
    let classes = trainer().train(&classes, None).unwrap();
    assert!(trainer().warm_start(&classes.onnx, &second, None).is_err());
}

#[test]
fn untrainable_labels_are_named() {
    for (label, said) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf")] {
        let mut request = request(50, 0.0, 1.0, 0.0, 2);
        request.labels[3] = label;
        let error = trainer().train(&request, None).unwrap_err();
        assert!(matches!(error, TrainerError::Failed(_)), "{error:?}");
        let expected = format!("the label of sample 3 is {said}, but only numbers up to 1e18");
        assert!(error.to_string().contains(&expected), "{error}");
    }
}

/// The result of a command that copies a model, and the request it got.
fn by_command(
    onnx: &[u8],
    request: &TrainRequest,
) -> (Result<Metrics, TrainerError>, serde_json::Value) {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("made.onnx"), onnx).unwrap();
    let script = format!(
        "cp \"$0\" {seen}; cp {made} model.onnx",
        seen = path("request.json").display(),
        made = path("made.onnx").display()
    );
    let line = CommandLine {
        program: "sh".into(),
        arguments: vec!["-c".into(), script.into()],
        timeout: Duration::from_secs(30),
        memory: None,
    };
    let features: Vec<String> = (0..FEATURES).map(|at| format!("\"f{at}\"")).collect();
    let schema = format!(
        r#"{{"id":"i","time":"t","site":"s","features":[{}],"label":{{"column":"y","kind":"number"}}}}"#,
        features.join(",")
    );
    let schema: Schema = serde_json::from_str(&schema).unwrap();
    let runtime = Runtime::load().unwrap();
    let trainer = CommandTrainer::new(line, schema, path("trainings"), runtime).unwrap();
    let rows = request.features.rows().into_iter();
    let samples: Vec<RetainedSample> = rows
        .zip(&request.labels)
        .enumerate()
        .map(|(at, (row, label))| RetainedSample {
            sequence: at as u64,
            time: 0,
            label: *label,
            features: row.to_vec(),
            weight: 1.0,
        })
        .collect();
    let trained = trainer.train(&Job {
        model: ModelId {
            task: TaskId::BASE,
            version: 1,
        },
        task: "base",
        samples: &samples,
        request,
        from: None,
        limit: None,
    });
    let seen = serde_json::from_slice(&fs::read(path("request.json")).unwrap()).unwrap();
    (trained.map(|trained| trained.metrics), seen)
}

type Metrics = std::collections::BTreeMap<String, f64>;

#[test]
fn command_gets_numbers_and_returns_a_model_of_one_output() {
    let request = request(60, 7.0, 1.0, 0.1, 3);
    let onnx = trainer().train(&request, None).unwrap().onnx;
    let (trained, seen) = by_command(&onnx, &request);
    trained.unwrap();
    assert_eq!(seen["kind"], "number");
    assert_eq!(seen["classes"], serde_json::json!([]));
    // A model of classes does not fit.
    let mut classes = request.clone();
    classes.kind = LabelKind::Classes(2);
    classes
        .labels
        .iter_mut()
        .for_each(|label| *label = f32::from(u8::from(*label > 7.0)));
    let onnx = trainer().train(&classes, None).unwrap().onnx;
    let error = by_command(&onnx, &request).0.unwrap_err().to_string();
    let expected = "where an output of floats [N, 1] is needed";
    assert!(error.contains(expected), "{error}");
}
