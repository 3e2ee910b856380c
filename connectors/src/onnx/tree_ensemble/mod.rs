//! Boosted trees as ONNX: conversion of XGBoost's JSON to a TreeEnsemble of `ai.onnx.ml`.

mod booster;
mod error;

use perennial_operators::LabelKind;
use prost::Message;

use self::booster::{Booster, Tree};
pub use self::error::ConvertError;
use super::protobuf::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, ValueInfoProto,
};

/// Name of the input of a converted model: float `[N, features]`.
pub(super) const INPUT: &str = "features";

/// Name of the output of a converted model: float `[N, classes]`, or `[N, 1]` for a number.
fn output(kind: LabelKind) -> &'static str {
    match kind {
        LabelKind::Classes(_) => "probabilities",
        LabelKind::Number => "number",
    }
}

/// Converts an XGBoost model (JSON, `multi:softprob` or `reg:squarederror` over trees) to an ONNX
/// model with the input `features`, float `[N, features]` with NaN for missing, and the output
/// `probabilities`, float `[N, classes]`, or `number`, float `[N, 1]`.
///
/// The model adds up the margins in XGBoost's own order, base score first, so that they are equal
/// to the bit.
///
/// # Errors
/// The bytes are no such model, or it has another label or other numbers of features or classes.
pub fn convert(
    xgboost_json: &[u8],
    features: usize,
    kind: LabelKind,
) -> Result<Vec<u8>, ConvertError> {
    let booster = Booster::parse(xgboost_json, features, kind)?;
    let mut ensemble = Ensemble::default();
    let mut base_scores: Vec<Option<f32>> = booster.base_scores.into_iter().map(Some).collect();
    for (tree, class) in &booster.trees {
        // The base score goes into the class's first tree. As the operator's base_values it would
        // be added last, and the sum of floats depends on their order.
        let base_score = base_scores[*class].take().unwrap_or_default();
        ensemble.push(tree, features, *class, base_score)?;
    }
    for (class, base_score) in base_scores.into_iter().enumerate() {
        if let Some(base_score) = base_score {
            ensemble.push(&Tree::leaf(0.0), features, class, base_score)?;
        }
    }
    Ok(model(ensemble, features, kind).encode_to_vec())
}

/// Adds the trees of an XGBoost model to a model of this module that it was trained to correct: the
/// logits, or numbers, of the two add up.
///
/// # Errors
/// `onnx` is no such model, or one of the two has other numbers of features or classes.
pub fn extend(
    onnx: &[u8],
    xgboost_json: &[u8],
    features: usize,
    kind: LabelKind,
) -> Result<Vec<u8>, ConvertError> {
    let booster = Booster::parse(xgboost_json, features, kind)?;
    let mut ensemble = Ensemble::read(onnx, features, kind)?;
    for (tree, class) in &booster.trees {
        // Trees that start from margins do not use the base scores.
        ensemble.push(tree, features, *class, 0.0)?;
    }
    Ok(model(ensemble, features, kind).encode_to_vec())
}

/// Number of trees of a model of this module.
///
/// # Errors
/// `onnx` is no such model, or has other numbers of features or classes.
pub fn trees(onnx: &[u8], features: usize, kind: LabelKind) -> Result<usize, ConvertError> {
    let ensemble = Ensemble::read(onnx, features, kind)?;
    Ok(usize::try_from(ensemble.trees).unwrap_or(usize::MAX))
}

/// Wraps an ensemble into a model.
fn model(ensemble: Ensemble, features: usize, kind: LabelKind) -> ModelProto {
    let node = NodeProto {
        input: vec![INPUT.to_owned()],
        output: vec![output(kind).to_owned()],
        name: Some("trees".to_owned()),
        op_type: Some("TreeEnsembleRegressor".to_owned()),
        attribute: ensemble.into_attributes(kind),
        domain: Some("ai.onnx.ml".to_owned()),
    };
    let graph = GraphProto {
        node: vec![node],
        name: Some("perennial".to_owned()),
        input: vec![ValueInfoProto::rows_of(INPUT, features)],
        output: vec![ValueInfoProto::rows_of(output(kind), kind.width())],
    };
    let opset = |domain: &str, version| OperatorSetIdProto {
        domain: Some(domain.to_owned()),
        version: Some(version),
    };
    ModelProto {
        ir_version: Some(8),
        producer_name: Some("perennial".to_owned()),
        graph: Some(graph),
        opset_import: vec![opset("", 17), opset("ai.onnx.ml", 3)],
    }
}

/// The nodes of all trees in the columns of the operator.
#[derive(Clone, Default)]
struct Ensemble {
    trees: i64,
    tree_ids: Vec<i64>,
    node_ids: Vec<i64>,
    features: Vec<i64>,
    thresholds: Vec<f32>,
    modes: Vec<Vec<u8>>,
    true_ids: Vec<i64>,
    false_ids: Vec<i64>,
    missing_is_true: Vec<i64>,
    leaf_trees: Vec<i64>,
    leaf_nodes: Vec<i64>,
    leaf_classes: Vec<i64>,
    leaf_weights: Vec<f32>,
}

impl Ensemble {
    /// The ensemble of a model over `features` features for a label of `kind`.
    fn read(onnx: &[u8], features: usize, kind: LabelKind) -> Result<Ensemble, ConvertError> {
        let foreign = |what: &str| ConvertError::Foreign(what.to_owned());
        let found = ModelProto::decode(onnx).map_err(|error| foreign(&error.to_string()))?;
        let graph = found.graph.as_ref();
        let Some([node]) = graph.map(|graph| graph.node.as_slice()) else {
            return Err(foreign("it has not one node"));
        };
        let mut ensemble = Ensemble::default();
        for attribute in &node.attribute {
            ensemble.take(attribute.clone());
        }
        let last = ensemble.tree_ids.iter().max();
        ensemble.trees = last.map_or(0, |last| last + 1);
        // Writing it again must give the same model: then nothing was ignored, and all sizes match.
        if model(ensemble.clone(), features, kind) == found && ensemble.is_sound(features) {
            Ok(ensemble)
        } else {
            Err(foreign(
                "it was written by another program, or for other sizes",
            ))
        }
    }

    /// Whether all columns have one length, all features exist, and every child comes after its
    /// node, so that no walk through a tree is endless.
    fn is_sound(&self, features: usize) -> bool {
        let nodes = self.tree_ids.len();
        let columns = [
            &self.node_ids,
            &self.features,
            &self.true_ids,
            &self.false_ids,
            &self.missing_is_true,
        ];
        let lengths = [self.thresholds.len(), self.modes.len()];
        let leaves = [&self.leaf_nodes, &self.leaf_classes].map(Vec::len);
        let leaf_lengths = leaves.into_iter().chain([self.leaf_weights.len()]);
        columns
            .map(Vec::len)
            .iter()
            .chain(&lengths)
            .all(|length| *length == nodes)
            && leaf_lengths
                .into_iter()
                .all(|length| length == self.leaf_trees.len())
            && self
                .features
                .iter()
                .all(|feature| usize::try_from(*feature).is_ok_and(|it| it < features))
            && (0..nodes).all(|node| {
                let own = self.node_ids[node];
                self.modes[node] == b"LEAF"
                    || (self.true_ids[node] > own && self.false_ids[node] > own)
            })
    }

    /// Sets the column of an attribute, the inverse of [`Ensemble::into_attributes`].
    fn take(&mut self, attribute: AttributeProto) {
        let AttributeProto {
            name,
            ints,
            floats,
            strings,
            ..
        } = attribute;
        match name.as_deref().unwrap_or_default() {
            "nodes_treeids" => self.tree_ids = ints,
            "nodes_nodeids" => self.node_ids = ints,
            "nodes_featureids" => self.features = ints,
            "nodes_values" => self.thresholds = floats,
            "nodes_modes" => self.modes = strings,
            "nodes_truenodeids" => self.true_ids = ints,
            "nodes_falsenodeids" => self.false_ids = ints,
            "nodes_missing_value_tracks_true" => self.missing_is_true = ints,
            "target_treeids" => self.leaf_trees = ints,
            "target_nodeids" => self.leaf_nodes = ints,
            "target_ids" => self.leaf_classes = ints,
            "target_weights" => self.leaf_weights = floats,
            _ => {}
        }
    }

    /// Adds a tree of `class` over `features` features, with `base_score` added to each leaf.
    fn push(
        &mut self,
        tree: &Tree,
        features: usize,
        class: usize,
        base_score: f32,
    ) -> Result<(), ConvertError> {
        // Only nodes that the root reaches are written: pruning leaves dead nodes behind. Node n of
        // the operator is the n-th of `reached`, which grows during the walk.
        let mut reached = vec![0];
        let mut next = 0;
        while let Some(&node) = reached.get(next) {
            if reached.len() > tree.len() {
                return Err(ConvertError::Damaged(
                    "a node hangs on two others".to_owned(),
                ));
            }
            self.tree_ids.push(self.trees);
            self.node_ids.push(next as i64);
            if let Some(split) = tree.split(node, features)? {
                let left = reached.len() as i64;
                reached.extend([split.left, split.right]);
                self.features.push(split.feature as i64);
                self.thresholds.push(split.threshold);
                self.modes.push(b"BRANCH_LT".to_vec());
                self.true_ids.push(left);
                self.false_ids.push(left + 1);
                self.missing_is_true.push(split.missing_goes_left.into());
            } else {
                self.push_leaf(next, class, base_score + tree.weight(node)?);
            }
            next += 1;
        }
        self.trees += 1;
        Ok(())
    }

    /// Adds a leaf as a node of the current tree.
    fn push_leaf(&mut self, node: usize, class: usize, weight: f32) {
        self.features.push(0);
        self.thresholds.push(0.0);
        self.modes.push(b"LEAF".to_vec());
        self.true_ids.push(0);
        self.false_ids.push(0);
        self.missing_is_true.push(0);
        self.leaf_trees.push(self.trees);
        self.leaf_nodes.push(node as i64);
        self.leaf_classes.push(class as i64);
        self.leaf_weights.push(weight);
    }

    /// The attributes of a TreeEnsembleRegressor.
    fn into_attributes(self, kind: LabelKind) -> Vec<AttributeProto> {
        let post_transform = match kind {
            LabelKind::Classes(_) => "SOFTMAX",
            LabelKind::Number => "NONE",
        };
        vec![
            AttributeProto::ints("nodes_treeids", self.tree_ids),
            AttributeProto::ints("nodes_nodeids", self.node_ids),
            AttributeProto::ints("nodes_featureids", self.features),
            AttributeProto::floats("nodes_values", self.thresholds),
            AttributeProto::strings("nodes_modes", self.modes),
            AttributeProto::ints("nodes_truenodeids", self.true_ids),
            AttributeProto::ints("nodes_falsenodeids", self.false_ids),
            AttributeProto::ints("nodes_missing_value_tracks_true", self.missing_is_true),
            AttributeProto::ints("target_treeids", self.leaf_trees),
            AttributeProto::ints("target_nodeids", self.leaf_nodes),
            AttributeProto::ints("target_ids", self.leaf_classes),
            AttributeProto::floats("target_weights", self.leaf_weights),
            AttributeProto::int("n_targets", kind.width() as i64),
            AttributeProto::string("aggregate_function", "SUM"),
            AttributeProto::string("post_transform", post_transform),
        ]
    }
}
