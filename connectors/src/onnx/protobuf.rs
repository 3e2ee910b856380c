//! Messages of ONNX for a tree ensemble, with the field numbers of `onnx.proto`.

use prost::{Message, Oneof};

/// A model: a graph and the operator sets that it uses.
#[derive(Clone, PartialEq, Message)]
pub struct ModelProto {
    #[prost(int64, optional, tag = "1")]
    pub ir_version: Option<i64>,
    #[prost(string, optional, tag = "2")]
    pub producer_name: Option<String>,
    #[prost(message, optional, tag = "7")]
    pub graph: Option<GraphProto>,
    #[prost(message, repeated, tag = "8")]
    pub opset_import: Vec<OperatorSetIdProto>,
}

/// A version of an operator set; the empty domain is ONNX's own.
#[derive(Clone, PartialEq, Message)]
pub struct OperatorSetIdProto {
    #[prost(string, optional, tag = "1")]
    pub domain: Option<String>,
    #[prost(int64, optional, tag = "2")]
    pub version: Option<i64>,
}

/// Nodes in the order of their evaluation.
#[derive(Clone, PartialEq, Message)]
pub struct GraphProto {
    #[prost(message, repeated, tag = "1")]
    pub node: Vec<NodeProto>,
    #[prost(string, optional, tag = "2")]
    pub name: Option<String>,
    #[prost(message, repeated, tag = "11")]
    pub input: Vec<ValueInfoProto>,
    #[prost(message, repeated, tag = "12")]
    pub output: Vec<ValueInfoProto>,
}

/// One operator, with the names of the values that it reads and writes.
#[derive(Clone, PartialEq, Message)]
pub struct NodeProto {
    #[prost(string, repeated, tag = "1")]
    pub input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub output: Vec<String>,
    #[prost(string, optional, tag = "3")]
    pub name: Option<String>,
    #[prost(string, optional, tag = "4")]
    pub op_type: Option<String>,
    #[prost(message, repeated, tag = "5")]
    pub attribute: Vec<AttributeProto>,
    #[prost(string, optional, tag = "7")]
    pub domain: Option<String>,
}

/// A setting of an operator; `type` names the field with its value.
#[derive(Clone, PartialEq, Message)]
pub struct AttributeProto {
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    #[prost(int64, optional, tag = "3")]
    pub i: Option<i64>,
    #[prost(bytes = "vec", optional, tag = "4")]
    pub s: Option<Vec<u8>>,
    #[prost(float, repeated, tag = "7")]
    pub floats: Vec<f32>,
    #[prost(int64, repeated, tag = "8")]
    pub ints: Vec<i64>,
    #[prost(bytes = "vec", repeated, tag = "9")]
    pub strings: Vec<Vec<u8>>,
    #[prost(enumeration = "AttributeType", optional, tag = "20")]
    pub r#type: Option<i32>,
}

/// The kinds of settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum AttributeType {
    Undefined = 0,
    Int = 2,
    String = 3,
    Floats = 6,
    Ints = 7,
    Strings = 8,
}

/// The name and type of a graph's input or output.
#[derive(Clone, PartialEq, Message)]
pub struct ValueInfoProto {
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    #[prost(message, optional, tag = "2")]
    pub r#type: Option<TypeProto>,
}

/// A type; only tensors are needed.
#[derive(Clone, PartialEq, Message)]
pub struct TypeProto {
    #[prost(message, optional, tag = "1")]
    pub tensor_type: Option<TensorType>,
}

/// `TypeProto.Tensor`: an element type and a shape.
#[derive(Clone, PartialEq, Message)]
pub struct TensorType {
    #[prost(int32, optional, tag = "1")]
    pub elem_type: Option<i32>,
    #[prost(message, optional, tag = "2")]
    pub shape: Option<TensorShapeProto>,
}

/// The shape of a tensor.
#[derive(Clone, PartialEq, Message)]
pub struct TensorShapeProto {
    #[prost(message, repeated, tag = "1")]
    pub dim: Vec<Dimension>,
}

/// `TensorShapeProto.Dimension`.
#[derive(Clone, PartialEq, Message)]
pub struct Dimension {
    #[prost(oneof = "DimensionValue", tags = "1, 2")]
    pub value: Option<DimensionValue>,
}

/// A length, or the name of a variable one.
#[derive(Clone, PartialEq, Oneof)]
pub enum DimensionValue {
    #[prost(int64, tag = "1")]
    Length(i64),
    #[prost(string, tag = "2")]
    Name(String),
}

/// `TensorProto.DataType.FLOAT`.
pub const FLOAT: i32 = 1;

impl AttributeProto {
    /// A whole number.
    pub fn int(name: &str, value: i64) -> Self {
        let value = AttributeProto {
            i: Some(value),
            ..AttributeProto::default()
        };
        value.named(name, AttributeType::Int)
    }

    /// A text.
    pub fn string(name: &str, value: &str) -> Self {
        let value = AttributeProto {
            s: Some(value.into()),
            ..AttributeProto::default()
        };
        value.named(name, AttributeType::String)
    }

    /// A list of floats.
    pub fn floats(name: &str, floats: Vec<f32>) -> Self {
        let value = AttributeProto {
            floats,
            ..AttributeProto::default()
        };
        value.named(name, AttributeType::Floats)
    }

    /// A list of whole numbers.
    pub fn ints(name: &str, ints: Vec<i64>) -> Self {
        let value = AttributeProto {
            ints,
            ..AttributeProto::default()
        };
        value.named(name, AttributeType::Ints)
    }

    /// A list of texts.
    pub fn strings(name: &str, strings: Vec<Vec<u8>>) -> Self {
        let value = AttributeProto {
            strings,
            ..AttributeProto::default()
        };
        value.named(name, AttributeType::Strings)
    }

    fn named(mut self, name: &str, kind: AttributeType) -> Self {
        self.name = Some(name.to_owned());
        self.r#type = Some(kind.into());
        self
    }
}

impl ValueInfoProto {
    /// A float tensor of any number of rows and `columns` columns.
    pub fn rows_of(name: &str, columns: usize) -> Self {
        let dim = [
            DimensionValue::Name("N".to_owned()),
            DimensionValue::Length(columns as i64),
        ]
        .map(|value| Dimension { value: Some(value) })
        .to_vec();
        let tensor = TensorType {
            elem_type: Some(FLOAT),
            shape: Some(TensorShapeProto { dim }),
        };
        ValueInfoProto {
            name: Some(name.to_owned()),
            r#type: Some(TypeProto {
                tensor_type: Some(tensor),
            }),
        }
    }
}
