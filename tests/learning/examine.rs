//! Models from elsewhere run in a process of their own, within limits.

use ndarray::{Array2, array};
use perennial_connectors::onnx::Runtime;
use perennial_connectors::trainer::{ExamineError, Examiner, Origin};
use perennial_operators::LabelKind;

use support::onnx;

const FEATURES: usize = 4;
const VALUES: [f32; 3] = [0.5, 0.25, 0.25];

/// What the examination of a model finds on two samples.
fn examine(onnx: &[u8], origin: Origin) -> Result<Array2<f32>, ExamineError> {
    let examiner = Examiner::new(Runtime::load().expect("a runtime"));
    let features = Array2::from_elem((2, FEATURES), f32::NAN);
    examiner.outputs(
        onnx,
        origin,
        features.view(),
        LabelKind::Classes(VALUES.len()),
    )
}

#[test]
fn foreign_model_gives_its_outputs() {
    let expected = array![[0.5, 0.25, 0.25], [0.5, 0.25, 0.25]];
    let small = onnx::laborious(FEATURES, &VALUES, 10, 2);
    for onnx in [onnx::constant(FEATURES, &VALUES), small] {
        assert_eq!(examine(&onnx, Origin::Edge).expect("outputs"), expected);
    }
}

#[test]
fn foreign_model_that_is_useless_is_refused() {
    let refused = |onnx: &[u8], words: &str| {
        let error = examine(onnx, Origin::Edge).expect_err("it is refused");
        assert!(matches!(error, ExamineError::Unusable(_)), "{error:?}");
        assert!(error.to_string().contains(words), "{error}");
    };
    let unknown = onnx::unknown_operator(FEATURES, VALUES.len());
    refused(&unknown, "OperatorOfTheFuture");
    refused(&onnx::constant(FEATURES, &[1.0; 3]), "add up to 3");
    let error = examine(b"no model", Origin::Cloud).expect_err("it is refused");
    assert!(error.to_string().contains("does not load"), "{error}");
}

#[test]
fn edge_may_not_send_control_flow() {
    let onnx = onnx::with_loop(FEATURES, VALUES.len());
    let error = examine(&onnx, Origin::Edge).expect_err("it is refused");
    assert!(matches!(error, ExamineError::Forbidden(_)), "{error:?}");
    assert!(error.to_string().contains("control flow"), "{error}");
}

#[test]
fn foreign_model_that_takes_too_much_is_ended() {
    // About a minute of multiplications, or more memory than there is.
    let endless = onnx::laborious(FEATURES, &VALUES, 3000, 100);
    let error = examine(&endless, Origin::Edge).expect_err("it is ended");
    let said = error.to_string();
    assert!(said.contains("signal 9 ended the process"), "{said}");
    let huge = onnx::laborious(FEATURES, &VALUES, 1 << 19, 0);
    let error = examine(&huge, Origin::Edge).expect_err("it is refused");
    assert!(error.to_string().contains("alloc"), "{error}");
}
