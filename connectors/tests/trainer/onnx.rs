//! Sessions of converted models.

use ndarray::{Array2, Axis, s};
use perennial_connectors::onnx::{CHUNK, OnnxError, Runtime, Session, check};
use perennial_connectors::trainer::BuiltIn;
use perennial_operators::{LabelKind, TrainRequest, TreeParameters};

const FEATURES: usize = 17;
const CLASSES: usize = 3;

/// A trained model, and samples with missing values.
fn model(rows: usize) -> (Vec<u8>, Array2<f32>) {
    let mut state = 1_u64;
    let mut next = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    let features = Array2::from_shape_simple_fn((rows, FEATURES), || match next() {
        value if value < 0.1 => f32::NAN,
        value => value,
    });
    let labels = (0..rows)
        .map(|_| (next() * CLASSES as f32).floor())
        .collect();
    let request = TrainRequest {
        features,
        labels,
        kind: LabelKind::Classes(CLASSES),
        weights: None,
        margins: None,
        parameters: TreeParameters {
            rounds: 50,
            max_depth: 4,
            eta: 0.3,
            min_child_weight: 1.0,
            subsample: 1.0,
            colsample_bytree: 1.0,
            lambda: 1.0,
            seed: 0,
        },
    };
    let trainer = BuiltIn::find(Runtime::load().unwrap())
        .expect("run cargo build --release -p perennial-trainer first");
    (
        trainer.train(&request, None).unwrap().onnx,
        request.features,
    )
}

fn session(onnx: &[u8]) -> Session {
    Runtime::load()
        .unwrap()
        .session(onnx, FEATURES, CLASSES)
        .unwrap()
}

#[test]
fn probabilities_do_not_depend_on_the_batch() {
    let (onnx, features) = model(1100);
    let mut session = session(&onnx);
    let bits = |session: &mut Session, batch: usize| {
        let mut found = Array2::<f32>::zeros((features.nrows(), CLASSES));
        let rooms = found.axis_chunks_iter_mut(Axis(0), batch);
        for (rows, room) in features.axis_chunks_iter(Axis(0), batch).zip(rooms) {
            session.predict(rows, room).unwrap();
        }
        found.mapv(f32::to_bits)
    };
    let alone = bits(&mut session, 1);
    for batch in [7, 50, 51, 63, CHUNK, CHUNK + 1, 500, 1100] {
        assert_eq!(bits(&mut session, batch), alone, "batches of {batch}");
    }
}

#[test]
fn views_of_any_layout_are_accepted() {
    let (onnx, features) = model(300);
    let mut session = session(&onnx);
    let mut found = Array2::zeros((300, CLASSES));
    session.predict(features.view(), found.view_mut()).unwrap();
    let (found, features) = (found, features);

    let columns_first = features.t().as_standard_layout().into_owned();
    let mut wide = Array2::zeros((300, CLASSES + 2));
    session
        .predict(columns_first.t(), wide.slice_mut(s![.., 1..=CLASSES]))
        .unwrap();
    assert_eq!(wide.slice(s![.., 1..=CLASSES]), found);

    let mut every_other = Array2::zeros((150, CLASSES));
    session
        .predict(features.slice(s![..;2, ..]), every_other.view_mut())
        .unwrap();
    assert_eq!(every_other, found.slice(s![..;2, ..]));

    session
        .predict(
            features.slice(s![..0, ..]),
            every_other.slice_mut(s![..0, ..]),
        )
        .unwrap();
    let difference = check(&mut session, features.view(), found.view(), 0.0).unwrap();
    assert_eq!(difference, 0.0);
}

#[test]
fn arrays_of_the_wrong_shape_are_refused() {
    let (onnx, features) = model(30);
    let mut session = session(&onnx);
    assert_eq!((session.features(), session.classes()), (FEATURES, CLASSES));
    for (columns, room) in [(16, (30, 3)), (17, (29, 3)), (17, (30, 2))] {
        let mut probabilities = Array2::zeros(room);
        let error = session
            .predict(features.slice(s![.., ..columns]), probabilities.view_mut())
            .unwrap_err();
        assert!(matches!(error, OnnxError::Shape { .. }), "{error:?}");
    }
    let runtime = Runtime::load().unwrap();
    assert_eq!(
        runtime.session(&onnx, 16, CLASSES).unwrap_err().to_string(),
        "the ONNX model does not fit: its input is \"features\" of type Tensor<f32>(N, 17) where \
         floats [N, 16] are needed"
    );
    assert_eq!(
        runtime.session(&onnx, FEATURES, 2).unwrap_err().to_string(),
        "the ONNX model does not fit: it gives \"probabilities\" of type Tensor<f32>(N, 3) where \
         an output of floats [N, 2] is needed"
    );
}

#[test]
fn damaged_model_gives_an_error() {
    let (onnx, features) = model(200);
    let runtime = Runtime::load().unwrap();
    for damaged in [
        &[][..],
        b"not an ONNX model",
        &onnx[..10],
        &onnx[..onnx.len() / 2],
    ] {
        let error = runtime.session(damaged, FEATURES, CLASSES).unwrap_err();
        let sentence = error.to_string();
        assert!(
            sentence.starts_with("the ONNX model does not load: "),
            "{sentence}"
        );
    }
    // Not every byte matters, but none may end the process.
    let mut refused = 0;
    for position in (0..onnx.len()).step_by(onnx.len() / 200) {
        let mut damaged = onnx.clone();
        damaged[position] ^= 0x15;
        match runtime.session(&damaged, FEATURES, CLASSES) {
            Ok(mut session) => {
                let mut found = Array2::zeros((200, CLASSES));
                let _ = session.predict(features.view(), found.view_mut());
            }
            Err(_) => refused += 1,
        }
    }
    println!("{refused} of 200 damaged models were refused");
}
