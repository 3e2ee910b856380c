//! XGBoost's JSON model format.

use perennial_operators::LabelKind;
use serde::Deserialize;

use super::error::ConvertError;

/// A booster of the expected kind and size.
pub struct Booster {
    /// The initial margin of each class, or the initial number.
    pub base_scores: Vec<f32>,
    /// The trees in boosting order, each with its class; class 0 for a number.
    pub trees: Vec<(Tree, usize)>,
}

/// A tree in XGBoost's columns, with one entry for each node. A node without a left child is a
/// leaf, and its weight is in the column of thresholds.
#[derive(Deserialize)]
pub struct Tree {
    left_children: Vec<i64>,
    right_children: Vec<i64>,
    split_indices: Vec<usize>,
    split_conditions: Vec<f32>,
    default_left: Vec<u8>,
    #[serde(default)]
    categories_nodes: Vec<i64>,
    #[serde(default)]
    tree_param: TreeParameters,
}

/// An inner node: a value below the threshold goes left, all others go right.
pub struct Split {
    pub feature: usize,
    pub threshold: f32,
    pub left: usize,
    pub right: usize,
    pub missing_goes_left: bool,
}

#[derive(Default, Deserialize)]
struct TreeParameters {
    #[serde(default)]
    size_leaf_vector: String,
}

#[derive(Deserialize)]
struct File {
    learner: Learner,
}

#[derive(Deserialize)]
struct Learner {
    gradient_booster: GradientBooster,
    learner_model_param: LearnerParameters,
    objective: Objective,
}

#[derive(Deserialize)]
struct Objective {
    name: String,
}

#[derive(Deserialize)]
struct LearnerParameters {
    base_score: String,
    num_class: String,
    num_feature: String,
}

#[derive(Deserialize)]
struct GradientBooster {
    name: String,
    // Absent from boosters other than gbtree, which are refused by their name.
    model: Option<Trees>,
}

#[derive(Deserialize)]
struct Trees {
    trees: Vec<Tree>,
    tree_info: Vec<usize>,
}

impl Booster {
    /// Parses a model and checks that it consists of trees over `features` features for a label of
    /// `kind`.
    pub fn parse(json: &[u8], features: usize, kind: LabelKind) -> Result<Booster, ConvertError> {
        let file: File = serde_json::from_slice(json).map_err(ConvertError::Json)?;
        let learner = file.learner;
        // XGBoost counts 0 classes if it predicts a number.
        let (objective, counted) = match kind {
            LabelKind::Classes(classes) => ("multi:softprob", classes),
            LabelKind::Number => ("reg:squarederror", 0),
        };
        let classes = kind.width();
        wanted("the objective", &learner.objective.name, objective)?;
        wanted("the booster", &learner.gradient_booster.name, "gbtree")?;
        let parameters = &learner.learner_model_param;
        size("features", &parameters.num_feature, features)?;
        size("classes", &parameters.num_class, counted)?;
        let base_scores = base_scores(&parameters.base_score, classes)
            .ok_or_else(|| ConvertError::BaseScore(parameters.base_score.clone()))?;
        let Trees { trees, tree_info } = learner
            .gradient_booster
            .model
            .ok_or_else(|| ConvertError::Damaged("it has no trees".to_owned()))?;
        if trees.len() != tree_info.len() {
            let sizes = format!("{} trees vote for {} classes", trees.len(), tree_info.len());
            return Err(ConvertError::Damaged(sizes));
        }
        for (tree, &class) in trees.iter().zip(&tree_info) {
            tree.check()?;
            if class >= classes {
                let sentence = format!("a tree votes for class {class} of {classes}");
                return Err(ConvertError::Damaged(sentence));
            }
        }
        Ok(Booster {
            base_scores,
            trees: trees.into_iter().zip(tree_info).collect(),
        })
    }
}

impl Tree {
    /// A tree of a single leaf.
    pub fn leaf(weight: f32) -> Tree {
        Tree {
            left_children: vec![-1],
            right_children: vec![-1],
            split_indices: vec![0],
            split_conditions: vec![weight],
            default_left: vec![0],
            categories_nodes: Vec::new(),
            tree_param: TreeParameters::default(),
        }
    }

    /// Number of nodes, dead ones included.
    pub fn len(&self) -> usize {
        self.left_children.len()
    }

    /// The split at a node by one of `features` features; none if the node is a leaf.
    pub fn split(&self, node: usize, features: usize) -> Result<Option<Split>, ConvertError> {
        if self.left_children[node] == -1 {
            return Ok(None);
        }
        let feature = self.split_indices[node];
        if feature >= features {
            let sentence = format!("a tree splits by feature {feature} of {features}");
            return Err(ConvertError::Damaged(sentence));
        }
        let child = |child: i64| {
            usize::try_from(child)
                .ok()
                .filter(|&child| child < self.len())
                .ok_or_else(|| ConvertError::Damaged(format!("a tree has no node {child}")))
        };
        Ok(Some(Split {
            feature,
            threshold: finite(self.split_conditions[node])?,
            left: child(self.left_children[node])?,
            right: child(self.right_children[node])?,
            missing_goes_left: self.default_left[node] != 0,
        }))
    }

    /// The weight of a leaf.
    pub fn weight(&self, node: usize) -> Result<f32, ConvertError> {
        finite(self.split_conditions[node])
    }

    /// Checks that all columns have the same length and that the splits can be expressed.
    fn check(&self) -> Result<(), ConvertError> {
        let columns = [
            self.right_children.len(),
            self.split_indices.len(),
            self.split_conditions.len(),
            self.default_left.len(),
        ];
        if self.len() == 0 || columns.iter().any(|&length| length != self.len()) {
            let sentence = "the columns of a tree differ in length";
            return Err(ConvertError::Damaged(sentence.to_owned()));
        }
        if !self.categories_nodes.is_empty() {
            return wanted("splits that are", "categorical", "numerical");
        }
        // Old versions write 0 for leaves of a single number.
        match self.tree_param.size_leaf_vector.as_str() {
            "" | "0" | "1" => Ok(()),
            size => wanted("leaves of length", size, "1"),
        }
    }
}

/// Checks that a property of the model has the `wanted` value.
fn wanted(what: &'static str, found: &str, wanted: &'static str) -> Result<(), ConvertError> {
    if found == wanted {
        return Ok(());
    }
    Err(ConvertError::Unsupported {
        what,
        found: found.to_owned(),
        wanted,
    })
}

/// Checks a size, which XGBoost writes as text.
fn size(what: &'static str, found: &str, wanted: usize) -> Result<(), ConvertError> {
    let found = found
        .parse()
        .map_err(|_| ConvertError::Damaged(format!("its number of {what} is {found:?}")))?;
    if found == wanted {
        return Ok(());
    }
    Err(ConvertError::Size {
        what,
        found,
        wanted,
    })
}

/// The base score of each class. XGBoost before version 3.1 writes one number for all classes,
/// later versions a list of one or of all. The objectives in use store it as a margin.
fn base_scores(text: &str, classes: usize) -> Option<Vec<f32>> {
    let text = text.trim();
    let list = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text);
    let scores = list
        .split(',')
        .map(|score| score.trim().parse::<f32>().ok().filter(|s| s.is_finite()))
        .collect::<Option<Vec<f32>>>()?;
    match scores.as_slice() {
        &[score] => Some(vec![score; classes]),
        scores if scores.len() == classes => Some(scores.to_vec()),
        _ => None,
    }
}

/// Refuses thresholds and weights that are not finite.
fn finite(value: f32) -> Result<f32, ConvertError> {
    if value.is_finite() {
        Ok(value)
    } else {
        Err(ConvertError::Damaged(format!(
            "a tree holds the value {value}"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::base_scores;

    #[test]
    fn base_scores_come_alone_or_as_a_list() {
        assert_eq!(base_scores("5E-1", 2), Some(vec![0.5, 0.5]));
        assert_eq!(base_scores("[5E-1]", 3), Some(vec![0.5; 3]));
        assert_eq!(base_scores("[1.5E0, -2E-1]", 2), Some(vec![1.5, -0.2]));
        assert_eq!(base_scores("[1,2]", 3), None);
        assert_eq!(base_scores("[]", 1), None);
        assert_eq!(base_scores("[inf,1]", 2), None);
        assert_eq!(base_scores("", 2), None);
    }
}
