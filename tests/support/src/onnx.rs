//! ONNX models that no trainer of the program would write, encoded by hand (`onnx.proto`).

/// A field of a protobuf message that holds a whole number.
fn number(tag: u8, value: u64) -> Vec<u8> {
    [vec![tag << 3], varint(value)].concat()
}

/// A field of a protobuf message that holds bytes, a text or another message.
fn bytes(tag: u8, value: &[u8]) -> Vec<u8> {
    [
        varint(u64::from(tag) << 3 | 2),
        varint(value.len() as u64),
        value.to_vec(),
    ]
    .concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// The type of an attribute, by its number in `AttributeProto.AttributeType`.
const INT: u64 = 2;
const STRING: u64 = 3;
const GRAPH: u64 = 5;
const FLOATS: u64 = 6;
const INTS: u64 = 7;
const STRINGS: u64 = 8;

/// An attribute of a node with its value as an encoded field.
fn attribute(name: &str, kind: u64, value: &[Vec<u8>]) -> Vec<u8> {
    // The type has the tag 20, which takes two bytes.
    let kind = [varint(20 << 3), varint(kind)].concat();
    bytes(
        5,
        &[bytes(1, name.as_bytes()), value.concat(), kind].concat(),
    )
}

fn floats(name: &str, values: &[f32]) -> Vec<u8> {
    let packed: Vec<u8> = values.iter().flat_map(|it| it.to_le_bytes()).collect();
    attribute(name, FLOATS, &[bytes(7, &packed)])
}

fn ints(name: &str, values: &[u64]) -> Vec<u8> {
    let packed: Vec<u8> = values.iter().flat_map(|it| varint(*it)).collect();
    attribute(name, INTS, &[bytes(8, &packed)])
}

fn strings(name: &str, values: &[&str]) -> Vec<u8> {
    let values: Vec<Vec<u8>> = values.iter().map(|it| bytes(9, it.as_bytes())).collect();
    attribute(name, STRINGS, &values)
}

/// An input or output: floats of any number of rows and `columns` columns.
fn rows_of(tag: u8, name: &str, columns: usize) -> Vec<u8> {
    let rows = bytes(1, &bytes(2, b"N"));
    let columns = bytes(1, &number(1, columns as u64));
    let tensor = [number(1, 1), bytes(2, &[rows, columns].concat())].concat();
    let kind = bytes(2, &bytes(1, &tensor));
    bytes(tag, &[bytes(1, name.as_bytes()), kind].concat())
}

/// An operator with its inputs, its output and its attributes.
fn node(domain: &str, operator: &str, inputs: &[&str], output: &str, more: &[Vec<u8>]) -> Vec<u8> {
    let inputs: Vec<u8> = inputs
        .iter()
        .flat_map(|it| bytes(1, it.as_bytes()))
        .collect();
    let node = [
        inputs,
        bytes(2, output.as_bytes()),
        bytes(4, operator.as_bytes()),
        more.concat(),
        bytes(7, domain.as_bytes()),
    ];
    bytes(1, &node.concat())
}

/// A model of operators from `features`, of `features` columns, to `outputs`, of `width`.
fn model_of(nodes: &[Vec<u8>], features: usize, width: usize) -> Vec<u8> {
    let graph = [
        nodes.concat(),
        bytes(2, b"test"),
        rows_of(11, "features", features),
        rows_of(12, "outputs", width),
    ];
    let operators = |domain: &str, version: u64| {
        let set = [bytes(1, domain.as_bytes()), number(2, version)];
        bytes(8, &set.concat())
    };
    let model = [
        number(1, 8),
        bytes(7, &graph.concat()),
        operators("", 17),
        operators(ML, 3),
    ];
    model.concat()
}

/// The domain of operators of classical models.
const ML: &str = "ai.onnx.ml";

/// A model of one operator of `ai.onnx.ml` from `features` features to `width` values.
fn model(operator: &str, attributes: &[Vec<u8>], features: usize, width: usize) -> Vec<u8> {
    let node = node(ML, operator, &["features"], "outputs", attributes);
    model_of(&[node], features, width)
}

/// Attributes of a tree of one leaf, which gives these values whatever the features are.
fn leaf(values: &[f32]) -> Vec<Vec<u8>> {
    let width = values.len() as u64;
    vec![
        ints("nodes_treeids", &[0]),
        ints("nodes_nodeids", &[0]),
        ints("nodes_featureids", &[0]),
        floats("nodes_values", &[0.0]),
        strings("nodes_modes", &["LEAF"]),
        ints("nodes_truenodeids", &[0]),
        ints("nodes_falsenodeids", &[0]),
        ints("target_treeids", &vec![0; values.len()]),
        ints("target_nodeids", &vec![0; values.len()]),
        ints("target_ids", &(0..width).collect::<Vec<_>>()),
        floats("target_weights", values),
        attribute("n_targets", INT, &[number(3, width)]),
        attribute("post_transform", STRING, &[bytes(4, b"NONE")]),
    ]
}

/// A model that gives these values for every row of `features` features, distribution or not.
pub fn constant(features: usize, values: &[f32]) -> Vec<u8> {
    model(
        "TreeEnsembleRegressor",
        &leaf(values),
        features,
        values.len(),
    )
}

/// The same model, which adds a sum of zeros to its values: of a matrix of `size` rows and columns
/// that is multiplied by itself `times` times.
pub fn laborious(features: usize, values: &[f32], size: u64, times: usize) -> Vec<u8> {
    let constant = node(
        "",
        "Constant",
        &[],
        "shape",
        &[ints("value_ints", &[size, size])],
    );
    let zeros = node("", "ConstantOfShape", &["shape"], "m0", &[]);
    let mut nodes = vec![constant, zeros];
    for step in 0..times {
        let (from, to) = (format!("m{step}"), format!("m{}", step + 1));
        nodes.push(node("", "MatMul", &["m0", &from], &to, &[]));
    }
    let keep = attribute("keepdims", INT, &[number(3, 0)]);
    let last = format!("m{times}");
    nodes.push(node("", "ReduceSum", &[&last], "sum", &[keep]));
    let trees = "TreeEnsembleRegressor";
    nodes.push(node(ML, trees, &["features"], "values", &leaf(values)));
    nodes.push(node("", "Add", &["values", "sum"], "outputs", &[]));
    model_of(&nodes, features, values.len())
}

/// A model with a loop, whose body is left out.
pub fn with_loop(features: usize, width: usize) -> Vec<u8> {
    let body = attribute("body", GRAPH, &[bytes(6, &bytes(2, b"body"))]);
    let nodes = [node("", "Loop", &["features"], "outputs", &[body])];
    model_of(&nodes, features, width)
}

/// A tree over the first of `features` features: these values below 0, those from 0 on, and ones,
/// which are no distribution, from `limit` on. A missing value counts as below.
pub fn fails_from(limit: f32, features: usize, below: &[f32], above: &[f32]) -> Vec<u8> {
    let width = below.len() as u64;
    let ones = vec![1.0; below.len()];
    // Node 0 asks for the limit, node 1 for 0; nodes 2, 3 and 4 are leaves.
    let leaves = [(3, below), (4, above), (2, &ones)];
    let weights: Vec<f32> = leaves.iter().flat_map(|(_, leaf)| *leaf).copied().collect();
    let nodes: Vec<u64> = leaves
        .iter()
        .flat_map(|(node, _)| vec![*node; below.len()])
        .collect();
    let targets: Vec<u64> = leaves.iter().flat_map(|_| 0..width).collect();
    let attributes = [
        ints("nodes_treeids", &[0; 5]),
        ints("nodes_nodeids", &[0, 1, 2, 3, 4]),
        ints("nodes_featureids", &[0; 5]),
        floats("nodes_values", &[limit, 0.0, 0.0, 0.0, 0.0]),
        strings(
            "nodes_modes",
            &["BRANCH_LT", "BRANCH_LT", "LEAF", "LEAF", "LEAF"],
        ),
        ints("nodes_truenodeids", &[1, 3, 0, 0, 0]),
        ints("nodes_falsenodeids", &[2, 4, 0, 0, 0]),
        ints("nodes_missing_value_tracks_true", &[1, 1, 0, 0, 0]),
        ints("target_treeids", &vec![0; nodes.len()]),
        ints("target_nodeids", &nodes),
        ints("target_ids", &targets),
        floats("target_weights", &weights),
        attribute("n_targets", INT, &[number(3, width)]),
        attribute("post_transform", STRING, &[bytes(4, b"NONE")]),
    ];
    model("TreeEnsembleRegressor", &attributes, features, below.len())
}

/// A well-formed model of an operator that no runtime knows.
pub fn unknown_operator(features: usize, width: usize) -> Vec<u8> {
    model("OperatorOfTheFuture", &[], features, width)
}
