//! Trainings with the built-in program, and its misbehaviour.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use ndarray::{Array2, array};
use perennial_connectors::onnx::{self, OnnxError, Runtime};
use perennial_connectors::trainer::{BuiltIn, Trained, TrainerError};
use perennial_operators::{LabelKind, TrainRequest, TrainResponse, TreeParameters};
use proptest::prelude::*;

use crate::support::{random, trainer};

const TWO: LabelKind = LabelKind::Classes(2);

fn parameters(rounds: u32, max_depth: u32) -> TreeParameters {
    TreeParameters {
        rounds,
        max_depth,
        eta: 0.3,
        min_child_weight: 1.0,
        subsample: 1.0,
        colsample_bytree: 1.0,
        lambda: 1.0,
        seed: 7,
    }
}

/// Samples whose class depends on the first features, with some noise and many missing values.
fn request(rows: usize, columns: usize, classes: usize, missing: f32, depth: u32) -> TrainRequest {
    let mut next = random((rows * 31 + columns * 7 + classes) as u64 + u64::from(depth));
    let mut features = Array2::from_shape_simple_fn((rows, columns), || next() * 10.0 - 5.0);
    let labels = features
        .rows()
        .into_iter()
        .map(|row| {
            let score = row[0] + row[columns - 1] * row[columns / 2] * 0.3 + next() * 2.0;
            (score.abs() * 1.3) as usize % classes
        })
        .map(|class| class as f32)
        .collect();
    features.mapv_inplace(|value| if next() < missing { f32::NAN } else { value });
    TrainRequest {
        features,
        labels,
        kind: LabelKind::Classes(classes),
        weights: None,
        margins: None,
        parameters: parameters(10, depth),
    }
}

/// Trains, which includes the check against XGBoost.
fn train(request: &TrainRequest) -> Trained {
    trainer().train(request, None).unwrap()
}

#[test]
fn onnx_equals_xgboost_for_all_depths_and_class_counts() {
    let mut greatest = 0.0_f32;
    for classes in [2, 3, 7] {
        for depth in 1..=8 {
            let missing = depth as f32 * 0.06;
            let trained = train(&request(400, 6, classes, missing, depth));
            greatest = greatest.max(trained.deviation);
        }
    }
    println!("greatest deviation {greatest:e}");
    assert!(greatest < 1e-6);
}

#[test]
fn intercept_is_estimated_for_each_class() {
    // One round that may not split: what remains is the share of each class, about.
    let mut request = request(900, 3, 3, 0.0, 1);
    request.labels = (0..900)
        .map(|row| [0.0, 0.0, 0.0, 1.0, 2.0, 0.0][row % 6])
        .collect();
    request.parameters.rounds = 1;
    request.parameters.eta = 1e-6;
    let trained = train(&request);
    let mut session = Runtime::load()
        .unwrap()
        .session(&trained.onnx, 3, 3)
        .unwrap();
    let mut found = Array2::zeros((900, 3));
    session
        .predict(request.features.view(), found.view_mut())
        .unwrap();
    for row in found.rows() {
        for (found, share) in row.iter().zip([4.0 / 6.0, 1.0 / 6.0, 1.0 / 6.0]) {
            assert!(
                (found - share).abs() < 1e-3,
                "{found} for a class with {share}"
            );
        }
    }
}

/// The mean log loss of a model on the samples of a request.
fn log_loss(onnx: &[u8], request: &TrainRequest) -> f32 {
    let (rows, features) = request.features.dim();
    let runtime = Runtime::load().unwrap();
    let mut session = runtime
        .session(onnx, features, request.kind.width())
        .unwrap();
    let mut found = Array2::zeros((rows, request.kind.width()));
    session
        .predict(request.features.view(), found.view_mut())
        .unwrap();
    let losses = request.labels.iter().zip(found.rows());
    losses
        .map(|(label, row)| -row[*label as usize].ln())
        .sum::<f32>()
        / rows as f32
}

#[test]
fn warm_start_corrects_its_model() {
    let first = request(600, 5, 3, 0.1, 3);
    let from = train(&first);
    // The same sensors, with two classes swapped.
    let mut second = first.clone();
    for label in &mut second.labels {
        *label = [1.0, 0.0, 2.0][*label as usize];
    }
    let warm = trainer().warm_start(&from.onnx, &second, None).unwrap();
    assert!(warm.deviation < 1e-5, "{}", warm.deviation);
    assert!(log_loss(&warm.onnx, &second) < 0.9 * log_loss(&from.onnx, &second));
    // And once more on top of that.
    let again = trainer().warm_start(&warm.onnx, &second, None).unwrap();
    assert!(log_loss(&again.onnx, &second) < log_loss(&warm.onnx, &second));
    // Trees that cannot learn change nothing.
    let mut nothing = first.clone();
    (nothing.parameters.rounds, nothing.parameters.eta) = (1, 1e-9);
    let same = trainer().warm_start(&from.onnx, &nothing, None).unwrap();
    let difference = log_loss(&same.onnx, &first) - log_loss(&from.onnx, &first);
    assert!(difference.abs() < 1e-5, "{difference}");
}

#[test]
fn warm_start_from_foreign_or_other_size_is_refused() {
    let from = train(&request(100, 4, 3, 0.1, 3));
    let refused = |onnx: &[u8], columns: usize, classes: usize| {
        let request = request(100, columns, classes, 0.1, 3);
        trainer().warm_start(onnx, &request, None).unwrap_err()
    };
    let error = refused(b"no model", 4, 3);
    assert!(matches!(error, TrainerError::Conversion(_)), "{error:?}");
    let error = refused(&from.onnx, 5, 3);
    assert!(matches!(error, TrainerError::Conversion(_)), "{error:?}");
    let error = refused(&from.onnx, 4, 2);
    assert!(matches!(error, TrainerError::Conversion(_)), "{error:?}");
    // Another program's model has other settings, if only in its name.
    let at = from.onnx.windows(5).position(|part| part == b"trees");
    let mut foreign = from.onnx.clone();
    foreign[at.unwrap()] = b'T';
    let error = refused(&foreign, 4, 3);
    assert!(matches!(error, TrainerError::Convert(_)), "{error:?}");
}

#[test]
fn odd_training_sets_give_models() {
    let mut one_class = request(50, 4, 3, 0.2, 3);
    one_class.labels.fill(1.0);
    train(&one_class);

    let mut one_row = request(1, 4, 3, 0.0, 3);
    one_row.labels = vec![2.0];
    train(&one_row);

    let mut unused = request(200, 5, 2, 0.1, 4);
    unused.features.column_mut(3).fill(4.0);
    unused.features.column_mut(2).fill(f32::NAN);
    train(&unused);

    // Few whole numbers, so that every threshold is a sample's value.
    let mut whole = request(300, 4, 3, 0.1, 5);
    whole.features.mapv_inplace(f32::round);
    train(&whole);

    let mut zeros = request(300, 4, 2, 0.0, 5);
    zeros
        .features
        .mapv_inplace(|value| if value < 0.0 { -0.0 } else { value.floor() });
    train(&zeros);

    let mut sampled = request(500, 8, 3, 0.3, 6);
    sampled.parameters.subsample = 0.5;
    sampled.parameters.colsample_bytree = 0.5;
    sampled.parameters.rounds = 60;
    train(&sampled);
}

proptest! {
    // Each case is a process.
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn small_data_sets_convert(
        rows in 1_usize..40,
        columns in 1_usize..6,
        classes in 2_usize..5,
        depth in 1_u32..9,
        rounds in 1_u32..6,
        values in prop::collection::vec(
            prop_oneof![
                3 => any::<i8>().prop_map(f32::from),
                3 => -1e3_f32..1e3,
                1 => prop::num::f32::NORMAL.prop_map(|value| value.clamp(-1e38, 1e38)),
                1 => prop::num::f32::SUBNORMAL,
                2 => Just(f32::NAN),
            ],
            200,
        ),
        labels in prop::collection::vec(0_usize..100, 40),
    ) {
        let features = Array2::from_shape_vec((rows, columns), values[..rows * columns].to_vec()).unwrap();
        let labels = labels[..rows].iter().map(|label| (label % classes) as f32).collect();
        let mut parameters = parameters(rounds, depth);
        parameters.min_child_weight = 0.0;
        trainer().train(&TrainRequest { features, labels, kind: LabelKind::Classes(classes), weights: None, margins: None, parameters }, None).unwrap();
    }
}

#[test]
fn training_is_deterministic() {
    let mut request = request(2000, 17, 3, 0.1, 4);
    request.parameters.subsample = 0.7;
    request.parameters.colsample_bytree = 0.6;
    let first = train(&request);
    assert_eq!(first, train(&request));
    assert_eq!(first.hash, blake3::hash(&first.onnx).to_hex().to_string());
    request.parameters.seed += 1;
    assert_ne!(first.hash, train(&request).hash);
}

#[test]
fn bad_requests_are_refused_with_a_reason() {
    let good = request(20, 3, 3, 0.1, 2);
    let refused = |change: fn(&mut TrainRequest), sentence: &str| {
        let mut request = good.clone();
        change(&mut request);
        let error = trainer().train(&request, None).unwrap_err();
        assert!(matches!(error, TrainerError::Failed(_)), "{error:?}");
        assert_eq!(
            error.to_string(),
            format!("the training failed: {sentence}")
        );
    };
    refused(
        |r| r.labels[4] = f32::NAN,
        "the label of sample 4 is NaN, which is no class number below 3",
    );
    refused(
        |r| r.labels[2] = 3.0,
        "the label of sample 2 is 3, which is no class number below 3",
    );
    refused(|r| r.labels.truncate(19), "20 samples came with 19 labels");
    refused(
        |r| r.features[[1, 2]] = f32::INFINITY,
        "feature 2 of sample 1 is inf, but only values up to 1e38 can be trained on; a missing value is NaN",
    );
    refused(
        |r| r.margins = Some(Array2::zeros((20, 2))),
        "20 samples of 3 classes came with margins of the shape (20, 2)",
    );
    refused(
        |r| r.margins = Some(Array2::from_elem((20, 3), f32::NAN)),
        "the margin of class 0 of sample 0 is NaN, which is no finite number",
    );
    refused(
        |r| r.kind = LabelKind::Classes(1),
        "a training needs two classes or more, but was given 1",
    );
    refused(
        |r| (r.features, r.labels) = (Array2::zeros((0, 3)), Vec::new()),
        "a training needs samples and features, but was given 0 samples of 3 features",
    );
    refused(
        |r| r.parameters.rounds = 0,
        "a training takes 1 to 2147483647 boosting rounds, but was given 0",
    );
    let mut eta = good.clone();
    eta.parameters.eta = -1.0;
    let error = trainer().train(&eta, None).unwrap_err();
    assert!(matches!(error, TrainerError::Failed(_)), "{error:?}");
}

/// A trainer whose program is a shell script.
struct Script {
    folder: tempfile::TempDir,
    trainer: BuiltIn,
}

fn script(text: &str) -> Script {
    let folder = tempfile::tempdir().unwrap();
    // The program sources the script, which so need not be executable: a file that another test's
    // child still holds open for writing cannot be executed.
    let program = folder.path().join("program");
    fs::write(
        &program,
        format!("#!/bin/sh\n. {}/script\n", folder.path().display()),
    )
    .unwrap();
    fs::write(folder.path().join("script"), text).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let trainer = BuiltIn::new(program, None, Runtime::load().unwrap());
    Script { folder, trainer }
}

/// Trains with a script, which fails. A program that was just written cannot be executed while
/// another test's child holds it open, which passes.
fn fail(script: &Script, request: &TrainRequest) -> TrainerError {
    loop {
        match script.trainer.train(request, None).unwrap_err() {
            TrainerError::Start { reason, .. } if reason.raw_os_error() == Some(26) => {
                thread::sleep(Duration::from_millis(5));
            }
            error => return error,
        }
    }
}

#[test]
fn misbehaving_trainer_gives_distinct_errors() {
    let request = request(20_000, 17, 3, 0.0, 2);
    let error = fail(&script("echo about to die >&2\nkill -9 $$\n"), &request);
    assert_eq!(
        error.to_string(),
        "signal 9 ended the training program; it said: about to die"
    );
    let error = fail(&script("cat > /dev/null\necho no >&2\nexit 3\n"), &request);
    assert_eq!(
        error.to_string(),
        "the training program ended with exit code 3; it said: no"
    );
    let error = fail(&script("exit 127\n"), &request);
    assert!(matches!(error, TrainerError::Libraries { .. }), "{error:?}");
    let error = fail(&script("cat > /dev/null\necho garbage\n"), &request);
    assert!(
        matches!(error, TrainerError::Answer { length: 8, .. }),
        "{error:?}"
    );
    let error = fail(&script("exit 0\n"), &request);
    assert!(
        matches!(error, TrainerError::Answer { length: 0, .. }),
        "{error:?}"
    );

    let missing = BuiltIn::new(PathBuf::from("/nowhere"), None, Runtime::load().unwrap());
    let error = missing.train(&request, None).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("the training program /nowhere does not start: ")
    );
}

#[test]
fn much_output_on_all_pipes_does_not_block() {
    let noise = "head -c 3000000 /dev/zero >&2\nhead -c 3000000 /dev/zero\ncat > /dev/null\n";
    let error = fail(&script(noise), &request(50_000, 17, 3, 0.0, 2));
    assert!(
        matches!(
            error,
            TrainerError::Answer {
                length: 3_000_000,
                ..
            }
        ),
        "{error:?}"
    );
}

/// A model of one tree: class 1 gains where feature 0 is below 0.5 or missing.
const MODEL: &str = r#"{"learner":{"gradient_booster":{"model":{"tree_info":[1],"trees":[{
    "left_children":[1,-1,-1],"right_children":[2,-1,-1],"split_indices":[0,0,0],
    "split_conditions":[5E-1,1E0,-1E0],"default_left":[1,0,0]}]},"name":"gbtree"},
    "learner_model_param":{"base_score":"[0E0,0E0]","num_class":"2","num_feature":"1"},
    "objective":{"name":"multi:softprob"}}}"#;

/// A trainer that returns [`MODEL`] and these probabilities.
fn answer(answers: Array2<f32>, model: &str) -> Script {
    let response = TrainResponse::Trained {
        model: model.as_bytes().to_vec(),
        answers,
    };
    let script = script("cat > /dev/null\ncat $(dirname $0)/response\n");
    let bytes = postcard::to_stdvec(&response).unwrap();
    fs::write(script.folder.path().join("response"), bytes).unwrap();
    script
}

#[test]
fn conversion_that_differs_from_xgboost_is_refused() {
    let request = TrainRequest {
        features: array![[0.0], [1.0], [f32::NAN]],
        labels: vec![1.0, 0.0, 1.0],
        kind: TWO,
        weights: None,
        margins: None,
        parameters: parameters(1, 1),
    };
    let high = 1.0 / (1.0 + (-1.0_f32).exp());
    let low = 1.0 - high;
    let right = array![[low, high], [high, low], [low, high]];

    let script = answer(right.clone(), MODEL);
    let trained = loop {
        match script.trainer.train(&request, None) {
            Err(TrainerError::Start { .. }) => thread::sleep(Duration::from_millis(5)),
            other => break other.unwrap(),
        }
    };
    assert!(trained.deviation < 1e-6);
    let mut wrong = right.clone();
    wrong[[2, 0]] += 1e-3;
    let error = fail(&answer(wrong, MODEL), &request);
    let deviates = |error: &TrainerError| {
        matches!(
            error,
            TrainerError::Conversion(OnnxError::Deviation {
                row: 2,
                class: 0,
                ..
            })
        )
    };
    assert!(deviates(&error), "{error:?}");
    wrong = right.clone();
    wrong[[2, 0]] = f32::NAN;
    let error = fail(&answer(wrong, MODEL), &request);
    assert!(deviates(&error), "{error:?}");

    let error = fail(&answer(right.clone(), "{}"), &request);
    assert!(matches!(error, TrainerError::Convert(_)), "{error:?}");
    let error = fail(&answer(array![[0.5, 0.5]], MODEL), &request);
    assert!(matches!(error, TrainerError::Answer { .. }), "{error:?}");
}

#[test]
fn damaged_models_do_not_convert() {
    assert!(onnx::convert(MODEL.as_bytes(), 1, TWO).is_ok());
    assert!(onnx::convert(MODEL.as_bytes(), 2, TWO).is_err());
    assert!(onnx::convert(MODEL.as_bytes(), 1, LabelKind::Classes(3)).is_err());
    for (from, to, says) in [
        ("multi:softprob", "reg:squarederror", "the objective"),
        ("\"gbtree\"", "\"dart\"", "the booster"),
        ("[1,-1,-1]", "[0,-1,-1]", "hangs on two others"),
        ("[1,-1,-1]", "[1,0,-1]", "damaged"),
        ("[2,-1,-1]", "[3,-1,-1]", "no node 3"),
        ("[2,-1,-1]", "[-7,-1,-1]", "no node -7"),
        ("[0,0,0]", "[1,0,0]", "feature 1 of 1"),
        ("[0,0,0]", "[0,0]", "differ in length"),
        ("\"tree_info\":[1]", "\"tree_info\":[2]", "class 2 of 2"),
        ("\"tree_info\":[1]", "\"tree_info\":[]", "vote for 0"),
        ("[0E0,0E0]", "[0E0,0E0,0E0]", "base score"),
        ("1E0", "Infinity", "no XGBoost model"),
    ] {
        let damaged = MODEL.replacen(from, to, 1);
        assert_ne!(damaged, MODEL);
        let error = onnx::convert(damaged.as_bytes(), 1, TWO).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[test]
fn hanging_training_is_killed_after_its_limit() {
    let request = request(20, 3, 3, 0.0, 2);
    let limit = Duration::from_millis(200);
    // The second closes its outputs, and hangs only then.
    for hangs in ["exec sleep infinity", "exec >&- 2>&-; sleep infinity"] {
        let script = script(hangs);
        let error = loop {
            match script.trainer.train(&request, Some(limit)).unwrap_err() {
                TrainerError::Start { .. } => thread::sleep(Duration::from_millis(5)),
                error => break error,
            }
        };
        let is_late = matches!(error, TrainerError::TimedOut { limit: of, .. } if of == limit);
        assert!(is_late, "{error:?}");
    }
}

#[test]
fn cancel_ends_running_trainings_and_refuses_new_ones() {
    // A training that is not ended would never return.
    let script = script("echo >> \"$0.started\"\nexec sleep infinity\n");
    let started = script.folder.path().join("program.started");
    let request = request(20, 3, 3, 0.0, 2);
    thread::scope(|scope| {
        let running = [0, 1].map(|_| scope.spawn(|| fail(&script, &request)));
        while !fs::read(&started).is_ok_and(|lines| lines.len() == 2) {
            thread::sleep(Duration::from_millis(5));
        }
        script.trainer.cancel().cancel();
        for running in running {
            let error = running.join().unwrap();
            assert!(matches!(error, TrainerError::Cancelled), "{error:?}");
        }
    });
    let error = fail(&script, &request);
    assert!(matches!(error, TrainerError::Cancelled), "{error:?}");
}
