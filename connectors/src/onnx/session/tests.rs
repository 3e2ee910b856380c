//! Models of other programs: which of their outputs is used, and which models are refused.

use ndarray::{Array2, array};
use prost::Message;

use super::{OnnxError, Runtime, Session};
use crate::onnx::protobuf::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, ValueInfoProto,
};

/// A model of nodes given as operator, input and outputs, from `features` `[N, 2]`.
fn model(nodes: Vec<NodeProto>, output: Vec<ValueInfoProto>) -> Vec<u8> {
    let opset = |domain: &str, version| OperatorSetIdProto {
        domain: Some(domain.to_owned()),
        version: Some(version),
    };
    let graph = GraphProto {
        node: nodes,
        name: Some("test".to_owned()),
        input: vec![ValueInfoProto::rows_of("features", 2)],
        output,
    };
    let model = ModelProto {
        ir_version: Some(8),
        producer_name: None,
        graph: Some(graph),
        opset_import: vec![opset("", 17), opset("ai.onnx.ml", 3)],
    };
    model.encode_to_vec()
}

fn node(operator: &str, input: &str, output: &[&str]) -> NodeProto {
    NodeProto {
        input: vec![input.to_owned()],
        output: output.iter().map(|&output| output.to_owned()).collect(),
        op_type: Some(operator.to_owned()),
        ..NodeProto::default()
    }
}

/// An output whose type is left to ONNX Runtime to find out.
fn open(name: &str) -> ValueInfoProto {
    ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: None,
    }
}

/// A linear classifier with the outputs label and probabilities, as scikit-learn's exporter makes
/// them.
fn classifier() -> NodeProto {
    NodeProto {
        domain: Some("ai.onnx.ml".to_owned()),
        attribute: vec![
            AttributeProto::floats("coefficients", vec![1.0, 0.0, 0.0, 1.0]),
            AttributeProto::floats("intercepts", vec![0.0, 0.0]),
            AttributeProto::ints("classlabels_ints", vec![0, 1]),
            AttributeProto::string("post_transform", "SOFTMAX"),
        ],
        ..node("LinearClassifier", "features", &["label", "scores"])
    }
}

fn load(onnx: &[u8]) -> Result<Session, OnnxError> {
    Runtime::load().unwrap().session(onnx, 2, 2)
}

fn refusal(onnx: &[u8]) -> String {
    let error = load(onnx).unwrap_err();
    assert!(matches!(error, OnnxError::Unfit(_)), "{error:?}");
    error.to_string()
}

#[test]
fn the_probabilities_of_a_classifier_are_taken_and_not_its_labels() {
    let onnx = model(vec![classifier()], vec![open("label"), open("scores")]);
    let mut session = load(&onnx).unwrap();
    let mut found = Array2::zeros((2, 2));
    let features = array![[0.0, 0.0], [3.0_f32.ln(), 0.0]];
    session.predict(features.view(), found.view_mut()).unwrap();
    for (found, expected) in found.iter().zip([0.5, 0.5, 0.75, 0.25]) {
        assert!(
            (found - expected).abs() < 1e-6,
            "{found} and not {expected}"
        );
    }
}

#[test]
fn a_zip_map_is_refused_with_advice() {
    let zip_map = NodeProto {
        domain: Some("ai.onnx.ml".to_owned()),
        attribute: vec![AttributeProto::ints("classlabels_int64s", vec![0, 1])],
        ..node("ZipMap", "scores", &["maps"])
    };
    let onnx = model(
        vec![classifier(), zip_map],
        vec![open("label"), open("maps")],
    );
    let sentence = refusal(&onnx);
    assert!(sentence.ends_with("export it without ZipMap, so that the probabilities are a tensor"));
}

#[test]
fn outputs_that_may_all_be_the_probabilities_are_refused() {
    let nodes = vec![
        node("Softmax", "features", &["one"]),
        node("Sigmoid", "features", &["two"]),
    ];
    let onnx = model(nodes, vec![open("one"), open("two")]);
    assert!(refusal(&onnx).contains("more than one of its outputs"));
}

#[test]
fn outputs_that_cannot_be_the_probabilities_are_refused() {
    let onnx = model(
        vec![node("Transpose", "features", &["out"])],
        vec![open("out")],
    );
    assert!(refusal(&onnx).contains("an output of floats [N, 2] is needed"));
    let onnx = model(
        vec![node("ArgMax", "features", &["out"])],
        vec![open("out")],
    );
    assert!(refusal(&onnx).contains("an output of floats [N, 2] is needed"));
}

#[test]
fn a_number_may_come_with_or_without_a_column() {
    let reduced = |keep: i64| {
        let reduce = NodeProto {
            attribute: vec![
                AttributeProto::ints("axes", vec![1]),
                AttributeProto::int("keepdims", keep),
            ],
            ..node("ReduceMax", "features", &["number"])
        };
        model(vec![reduce], vec![open("number")])
    };
    let features = array![[1.0, 2.5], [-3.0, -4.0], [f32::MAX, 0.0]];
    for keep in [0, 1] {
        let onnx = reduced(keep);
        let mut session = Runtime::load().unwrap().session(&onnx, 2, 1).unwrap();
        let mut found = Array2::zeros((3, 1));
        session.predict(features.view(), found.view_mut()).unwrap();
        assert_eq!(found, array![[2.5], [-3.0], [f32::MAX]]);
        // No probabilities of two classes.
        assert!(refusal(&onnx).contains("floats [N, 2]"));
    }
}

/// A model whose outputs are constants: `intercepts`, one a target.
fn constant(intercepts: Vec<f32>) -> Vec<u8> {
    let targets = intercepts.len();
    let regressor = NodeProto {
        domain: Some("ai.onnx.ml".to_owned()),
        attribute: vec![
            AttributeProto::floats("coefficients", vec![0.0; 2 * targets]),
            AttributeProto::floats("intercepts", intercepts),
            AttributeProto::int("targets", targets as i64),
        ],
        ..node("LinearRegressor", "features", &["scores"])
    };
    model(vec![regressor], vec![open("scores")])
}

#[test]
fn outputs_that_are_no_distribution_are_refused() {
    let features = Array2::zeros((3, 2));
    let predict = |intercepts: [f32; 2]| {
        let mut found = Array2::zeros((3, 2));
        let mut session = load(&constant(intercepts.to_vec())).unwrap();
        session.predict(features.view(), found.view_mut())
    };
    predict([0.25, 0.75]).unwrap();
    for intercepts in [[1.0, 1.0], [2.0, -1.0], [0.0, 0.0], [f32::NAN, 1.0]] {
        let error = predict(intercepts).unwrap_err();
        let is_output = matches!(error, OnnxError::Output { row: 0, .. });
        assert!(is_output, "{intercepts:?}: {error}");
    }
}

#[test]
fn transposed_outputs_are_refused() {
    // A classifier's [N, 2] as [2, N], of an open shape: two rows of two classes fit either way.
    let transpose = node("Transpose", "scores", &["turned"]);
    let onnx = model(vec![classifier(), transpose], vec![open("turned")]);
    assert!(refusal(&onnx).contains("tensor of shape"));
}
