//! Boosted trees as ONNX: from XGBoost's JSON to a TreeEnsemble of `ai.onnx.ml`.

mod booster;

use prost::Message;
use thiserror::Error;

use self::booster::{Booster, Tree};
use super::protobuf::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, ValueInfoProto,
};

/// The name of the input of a converted model: float `[N, features]`.
pub(super) const INPUT: &str = "features";
/// The name of its output: float `[N, classes]`.
pub(super) const OUTPUT: &str = "probabilities";

/// Why an XGBoost model could not be written as ONNX.
#[derive(Debug, Error)]
pub enum ConvertError {
    /// The bytes are no XGBoost model in JSON.
    #[error("this is no XGBoost model in JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The model is of a kind that is not converted.
    #[error("the XGBoost model has {what} {found}, but only {wanted} can be written as ONNX")]
    Unsupported {
        /// What property of the model.
        what: &'static str,
        /// Its value.
        found: String,
        /// The value that is understood.
        wanted: &'static str,
    },
    /// The model is not for this number of features or classes.
    #[error("the XGBoost model has {found} {what} where {wanted} were expected")]
    Size {
        /// Features or classes.
        what: &'static str,
        /// How many the model has.
        found: usize,
        /// How many it should have.
        wanted: usize,
    },
    /// The base score is not a number, or a list of one or of `classes` numbers.
    #[error("the XGBoost model's base score {0:?} is not one finite number a class")]
    BaseScore(String),
    /// The trees contradict themselves.
    #[error("the XGBoost model is damaged: {0}")]
    Damaged(String),
}

/// Writes an XGBoost model (JSON, `multi:softprob` over trees) as an ONNX model with the input
/// `features`, float `[N, features]` with NaN for missing, and the output `probabilities`, float
/// `[N, classes]`.
///
/// The margins are added up in XGBoost's own order, base score first, so that they come out the
/// same to the bit.
///
/// # Errors
/// The bytes are no such model, or it is for other numbers of features or classes.
pub fn convert(
    xgboost_json: &[u8],
    features: usize,
    classes: usize,
) -> Result<Vec<u8>, ConvertError> {
    let booster = Booster::parse(xgboost_json, features, classes)?;
    let mut ensemble = Ensemble::default();
    let mut base_scores: Vec<Option<f32>> = booster.base_scores.into_iter().map(Some).collect();
    for (tree, class) in &booster.trees {
        // The base score goes into the class's first tree. As the operator's base_values it would
        // be added last, and float additions do not commute.
        let base_score = base_scores[*class].take().unwrap_or_default();
        ensemble.push(tree, features, *class, base_score)?;
    }
    for (class, base_score) in base_scores.into_iter().enumerate() {
        if let Some(base_score) = base_score {
            ensemble.push(&Tree::leaf(0.0), features, class, base_score)?;
        }
    }
    Ok(model(ensemble, features, classes).encode_to_vec())
}

/// Wraps an ensemble into a model.
fn model(ensemble: Ensemble, features: usize, classes: usize) -> ModelProto {
    let node = NodeProto {
        input: vec![INPUT.to_owned()],
        output: vec![OUTPUT.to_owned()],
        name: Some("trees".to_owned()),
        op_type: Some("TreeEnsembleRegressor".to_owned()),
        attribute: ensemble.into_attributes(classes),
        domain: Some("ai.onnx.ml".to_owned()),
    };
    let graph = GraphProto {
        node: vec![node],
        name: Some("perennial".to_owned()),
        input: vec![ValueInfoProto::rows_of(INPUT, features)],
        output: vec![ValueInfoProto::rows_of(OUTPUT, classes)],
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

/// The nodes of all trees, column by column, as the operator takes them.
#[derive(Default)]
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
    /// Adds a tree over `features` features that votes for `class`, with `base_score` added to each
    /// of its leaves.
    fn push(
        &mut self,
        tree: &Tree,
        features: usize,
        class: usize,
        base_score: f32,
    ) -> Result<(), ConvertError> {
        // Only what the root reaches is taken: pruning leaves dead nodes behind. Node n of the
        // operator is the n-th of `reached`, which grows while it is walked through.
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

    /// Adds what makes a node of the current tree a leaf.
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
    fn into_attributes(self, classes: usize) -> Vec<AttributeProto> {
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
            AttributeProto::int("n_targets", classes as i64),
            AttributeProto::string("aggregate_function", "SUM"),
            AttributeProto::string("post_transform", "SOFTMAX"),
        ]
    }
}
