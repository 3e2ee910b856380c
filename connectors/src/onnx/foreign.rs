//! Models from elsewhere: what is refused before ONNX Runtime reads them.

use prost::Message;

/// Largest model from elsewhere, bytes.
const LARGEST: usize = 64 << 20;
/// `TensorProto.DataLocation.EXTERNAL`.
const EXTERNAL: i32 = 1;

/// A model, with the fields that are looked at. ONNX Runtime reads the others.
#[derive(Clone, PartialEq, Message)]
struct ForeignModel {
    #[prost(message, optional, tag = "7")]
    graph: Option<ForeignGraph>,
    #[prost(message, repeated, tag = "25")]
    functions: Vec<Present>,
}

/// A graph.
#[derive(Clone, PartialEq, Message)]
struct ForeignGraph {
    #[prost(message, repeated, tag = "1")]
    node: Vec<ForeignNode>,
    #[prost(message, repeated, tag = "5")]
    initializer: Vec<ForeignTensor>,
    #[prost(message, repeated, tag = "15")]
    sparse_initializer: Vec<ForeignSparseTensor>,
}

/// An operator.
#[derive(Clone, PartialEq, Message)]
struct ForeignNode {
    #[prost(string, optional, tag = "4")]
    op_type: Option<String>,
    #[prost(message, repeated, tag = "5")]
    attribute: Vec<ForeignAttribute>,
    #[prost(string, optional, tag = "7")]
    domain: Option<String>,
}

/// A setting of an operator.
#[derive(Clone, PartialEq, Message)]
struct ForeignAttribute {
    #[prost(message, optional, tag = "5")]
    t: Option<ForeignTensor>,
    #[prost(message, optional, tag = "6")]
    g: Option<Present>,
    #[prost(message, repeated, tag = "10")]
    tensors: Vec<ForeignTensor>,
    #[prost(message, repeated, tag = "11")]
    graphs: Vec<Present>,
    #[prost(message, optional, tag = "22")]
    sparse_tensor: Option<ForeignSparseTensor>,
    #[prost(message, repeated, tag = "23")]
    sparse_tensors: Vec<ForeignSparseTensor>,
}

/// A constant.
#[derive(Clone, PartialEq, Message)]
struct ForeignTensor {
    #[prost(message, repeated, tag = "13")]
    external_data: Vec<Present>,
    #[prost(int32, optional, tag = "14")]
    data_location: Option<i32>,
}

/// A sparse constant: its values and their places.
#[derive(Clone, PartialEq, Message)]
struct ForeignSparseTensor {
    #[prost(message, optional, tag = "1")]
    values: Option<ForeignTensor>,
    #[prost(message, optional, tag = "2")]
    indices: Option<ForeignTensor>,
}

/// A message of which only the presence matters.
#[derive(Clone, PartialEq, Message)]
struct Present {}

/// Refuses a model whose operators could read files, run for ever, or are none of ONNX's own.
pub fn inspect(onnx: &[u8]) -> Result<(), String> {
    if onnx.len() > LARGEST {
        let size = onnx.len();
        return Err(format!("it has {size} bytes, and {LARGEST} are the most"));
    }
    let model = ForeignModel::decode(onnx).map_err(|error| error.to_string())?;
    if !model.functions.is_empty() {
        return Err("it defines functions of its own".to_owned());
    }
    let graph = model.graph.unwrap_or_default();
    let tensors = graph.initializer.iter();
    let sparse = graph.sparse_initializer.iter();
    let mut is_external = tensors.chain(sparse.flat_map(parts)).any(is_elsewhere);
    for node in &graph.node {
        let operator = node.op_type.as_deref().unwrap_or_default();
        let domain = node.domain.as_deref().unwrap_or_default();
        if !["", "ai.onnx", "ai.onnx.ml"].contains(&domain) {
            return Err(format!("its operator {operator} is of the domain {domain}"));
        }
        for attribute in &node.attribute {
            if attribute.g.is_some() || !attribute.graphs.is_empty() {
                return Err(format!("its operator {operator} has a graph: control flow"));
            }
            let sparse = attribute.sparse_tensor.iter();
            let sparse = sparse.chain(&attribute.sparse_tensors).flat_map(parts);
            let tensors = attribute.t.iter().chain(&attribute.tensors).chain(sparse);
            is_external |= tensors.into_iter().any(is_elsewhere);
        }
    }
    match is_external {
        true => Err("a part of it is in another file".to_owned()),
        false => Ok(()),
    }
}

/// Whether the values of a constant are in another file.
fn is_elsewhere(tensor: &ForeignTensor) -> bool {
    tensor.data_location == Some(EXTERNAL) || !tensor.external_data.is_empty()
}

/// The tensors that a sparse one consists of.
fn parts(sparse: &ForeignSparseTensor) -> impl Iterator<Item = &ForeignTensor> {
    sparse.values.iter().chain(&sparse.indices)
}
