//! Models in ONNX: those of the built-in trainer, which are read, and any, which are run.

use ndarray::{Array2, array};
use perennial_connectors::onnx::{self, Runtime};
use perennial_operators::LabelKind;

use crate::harness::Subject;
use crate::mutate;
use crate::trainers::BOOSTER;

/// Number of features of a model.
pub const FEATURES: usize = 4;
/// The label of a model.
pub const KIND: LabelKind = LabelKind::Classes(3);

/// First byte of a model in Protobuf; other inputs are texts for [`encode`].
const PROTOBUF: u8 = 0x08;

/// What surrounds the nodes of every model: versions, input and output.
const SHELL: &str = "1i8 8{ 1s 2i17 } 8{ 1sai.onnx.ml 2i3 } 2sperennial 7{ NODES 2sperennial
    11{ 1sfeatures 2{ 1{ 1i1 2{ 1{ 2sN } 1{ 1i4 } } } } }
    12{ 1sprobabilities 2{ 1{ 1i1 2{ 1{ 2sN } 1{ 1i3 } } } } } }";

/// Two trees, of a split and of a leaf.
const TREES: &str = "1{ 1sfeatures 2sprobabilities 3strees 4sTreeEnsembleRegressor
    5{ 1snodes_treeids 8i0 8i0 8i0 8i1 20i7 } 5{ 1snodes_nodeids 8i0 8i1 8i2 8i0 20i7 }
    5{ 1snodes_featureids 8i2 8i0 8i0 8i0 20i7 } 5{ 1snodes_values 7f0.5 7f0 7f0 7f0 20i6 }
    5{ 1snodes_modes 9sBRANCH_LT 9sLEAF 9sLEAF 9sLEAF 20i8 }
    5{ 1snodes_truenodeids 8i1 8i0 8i0 8i0 20i7 } 5{ 1snodes_falsenodeids 8i2 8i0 8i0 8i0 20i7 }
    5{ 1snodes_missing_value_tracks_true 8i1 8i0 8i0 8i0 20i7 }
    5{ 1starget_treeids 8i0 8i0 8i1 20i7 } 5{ 1starget_nodeids 8i1 8i2 8i0 20i7 }
    5{ 1starget_ids 8i0 8i1 8i2 20i7 } 5{ 1starget_weights 7f0.5 7f-1 7f0.25 20i6 }
    5{ 1sn_targets 3i3 20i2 } 5{ 1saggregate_function 4sSUM 20i3 }
    5{ 1spost_transform 4sSOFTMAX 20i3 } 7sai.onnx.ml }";

/// A classifier of trees, as other programs write it.
const CLASSIFIER: &str = "1{ 1sfeatures 2slabel 2sprobabilities 4sTreeEnsembleClassifier
    5{ 1snodes_treeids 8i0 8i0 8i0 20i7 } 5{ 1snodes_nodeids 8i0 8i1 8i2 20i7 }
    5{ 1snodes_featureids 8i3 8i0 8i0 20i7 } 5{ 1snodes_values 7f0.5 7f0 7f0 20i6 }
    5{ 1snodes_hitrates 7f1 7f1 7f1 20i6 }
    5{ 1snodes_modes 9sBRANCH_LEQ 9sLEAF 9sLEAF 20i8 }
    5{ 1snodes_truenodeids 8i1 8i0 8i0 20i7 } 5{ 1snodes_falsenodeids 8i2 8i0 8i0 20i7 }
    5{ 1sclass_treeids 8i0 8i0 8i0 20i7 } 5{ 1sclass_nodeids 8i1 8i1 8i2 20i7 }
    5{ 1sclass_ids 8i0 8i1 8i2 20i7 } 5{ 1sclass_weights 7f0.5 7f0.5 7f1 20i6 }
    5{ 1sclasslabels_int64s 8i0 8i1 8i2 20i7 } 5{ 1spost_transform 4sNONE 20i3 } 7sai.onnx.ml }";

/// A linear classifier behind a scaler.
const LINEAR: &str = "1{ 1sfeatures 2sscaled 4sScaler 5{ 1soffset 7f0 7f0 7f0 7f1 20i6 }
    5{ 1sscale 7f1 7f1 7f2 7f1 20i6 } 7sai.onnx.ml }
    1{ 1sscaled 2slabel 2sprobabilities 4sLinearClassifier
    5{ 1scoefficients 7f1 7f0 7f0 7f0 7f0 7f1 7f0 7f0 7f0 7f0 7f1 7f0 20i6 }
    5{ 1sintercepts 7f0 7f0 7f1 20i6 } 5{ 1sclasslabels_ints 8i0 8i1 8i2 20i7 }
    5{ 1spost_transform 4sSOFTMAX 20i3 } 7sai.onnx.ml }";

/// A network of one layer, with its weights.
const NETWORK: &str = "1{ 1sfeatures 1sweights 1sbias 2shidden 4sGemm 5{ 1stransB 3i1 20i2 } }
    1{ 1shidden 2sprobabilities 4sSoftmax 5{ 1saxis 3i1 20i2 } }
    5{ 1i3 1i4 2i1 4f1 4f0 4f0 4f0 4f0 4f1 4f0 4f0 4f0 4f0 4f1 4f0 8sweights }
    5{ 1i3 2i1 4f0 4f0.5 4f0 8sbias }";

/// Names of ONNX that a mutation may put in place of others.
const NAMES: &[&str] = &[
    "TreeEnsembleRegressor",
    "TreeEnsembleClassifier",
    "LinearRegressor",
    "LinearClassifier",
    "SVMRegressor",
    "Normalizer",
    "Scaler",
    "Imputer",
    "Gemm",
    "MatMul",
    "Softmax",
    "Relu",
    "Add",
    "Div",
    "Reshape",
    "Transpose",
    "Expand",
    "Tile",
    "Pad",
    "Gather",
    "Slice",
    "Split",
    "Concat",
    "TopK",
    "CumSum",
    "Range",
    "Cast",
    "Identity",
    "Flatten",
    "Conv",
    "BRANCH_LT",
    "BRANCH_EQ",
    "LEAF",
    "SUM",
    "AVERAGE",
    "PROBIT",
    "features",
    "probabilities",
    "hidden",
    " } ",
    " 1{ ",
    " 5{ ",
    " 8i-1 ",
    " 8i0 ",
    " 8i4 ",
    " 8i99999 ",
    " 8i9223372036854775807 ",
    " 7f1e38 ",
    " 7fnan ",
    " 7finf ",
    " 1i0 ",
    " 20i7 ",
];

/// A model in Protobuf from a text of fields, each a number and its kind: `i` an integer, `f` a
/// float, `s` a text, `{` a message up to its `}`. What is none of these is left out, so that a
/// damaged text mostly stays a model, with lengths that are right.
fn encode(text: &str) -> Vec<u8> {
    let mut open: Vec<(u64, Vec<u8>)> = vec![(0, Vec::new())];
    for word in text.split_whitespace() {
        if word == "}" {
            if open.len() > 1 {
                close(&mut open);
            }
            continue;
        }
        let digits = word.bytes().take_while(u8::is_ascii_digit).count();
        let (Ok(field), Some(kind)) =
            (word[..digits].parse::<u64>(), word[digits..].chars().next())
        else {
            continue;
        };
        let field = field & 0xffff;
        let value = &word[digits + kind.len_utf8()..];
        let Some((_, bytes)) = open.last_mut() else {
            continue;
        };
        match kind {
            '{' => open.push((field, Vec::new())),
            'i' => {
                let value = value.parse::<i128>().unwrap_or(0);
                bytes.extend(mutate::varint(field << 3));
                bytes.extend(mutate::varint(value as u64));
            }
            'f' => {
                bytes.extend(mutate::varint(field << 3 | 5));
                bytes.extend(value.parse::<f32>().unwrap_or(0.0).to_le_bytes());
            }
            's' => put(bytes, field, value.as_bytes()),
            _ => {}
        }
    }
    while open.len() > 1 {
        close(&mut open);
    }
    open.remove(0).1
}

/// Puts the last open message into the one around it.
fn close(open: &mut Vec<(u64, Vec<u8>)>) {
    if let Some((field, inner)) = open.pop()
        && let Some((_, outer)) = open.last_mut()
    {
        put(outer, field, &inner);
    }
}

fn put(bytes: &mut Vec<u8>, field: u64, content: &[u8]) {
    bytes.extend(mutate::varint(field << 3 | 2));
    bytes.extend(mutate::varint(content.len() as u64));
    bytes.extend(content);
}

/// The model in an input.
fn model(input: &[u8]) -> Vec<u8> {
    match input.first() {
        Some(&PROTOBUF) => input.to_vec(),
        _ => encode(&String::from_utf8_lossy(input)),
    }
}

fn subject(nodes: &[&str], decode: impl FnMut(&[u8]) -> bool + 'static) -> Subject {
    let converted = onnx::convert(BOOSTER.as_bytes(), FEATURES, KIND).expect("a model");
    let texts = nodes
        .iter()
        .map(|nodes| SHELL.replace("NODES", nodes).into_bytes());
    Subject {
        seeds: texts.chain([converted]).collect(),
        tokens: NAMES.to_vec(),
        decode: Box::new(decode),
    }
}

/// A model of the built-in trainer that another training corrects.
pub fn trees() -> Subject {
    let read = |onnx: &[u8]| onnx::extend(onnx, BOOSTER.as_bytes(), FEATURES, KIND);
    let subject = subject(&[TREES], move |input| read(&model(input)).is_ok());
    for seed in &subject.seeds {
        read(&model(seed)).expect("a valid seed");
    }
    subject
}

/// Any model, loaded and run.
pub fn any() -> Subject {
    let runtime = Runtime::load().expect("ONNX Runtime");
    let features = array![
        [0.0, 1.0, -1.0, 2.0],
        [f32::NAN, f32::NAN, f32::NAN, f32::NAN],
        [1e38, -1e38, 0.5, 0.0],
    ];
    let run = move |onnx: &[u8]| {
        let mut session = runtime.session(onnx, FEATURES, KIND.width())?;
        let mut found = Array2::zeros((features.nrows(), KIND.width()));
        session.predict(features.view(), found.view_mut())
    };
    let check = run.clone();
    let subject = subject(&[TREES, CLASSIFIER, LINEAR, NETWORK], move |input| {
        run(&model(input)).is_ok()
    });
    for seed in &subject.seeds {
        check(&model(seed)).expect("a valid seed");
    }
    subject
}
