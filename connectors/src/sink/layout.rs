//! Columns of a prediction, in any format.

use perennial_operators::algorithms::recognize::Recognized;
use perennial_operators::flow::Predicted;
use perennial_operators::{Batch, SITE};

/// The columns of a prediction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// Classes of the label, each with a probability; empty if the label is a number.
    pub classes: Vec<String>,
    /// Whether predictions say if the sample is of a known task.
    pub recognizes: bool,
}

impl Layout {
    /// The layout of predictions of `classes`, or of a number, without recognition of unseen
    /// samples.
    pub fn of(classes: &[String]) -> Layout {
        Layout {
            classes: classes.to_vec(),
            recognizes: false,
        }
    }
}

/// Recognition of one sample: whether its task is known.
#[derive(Debug, Default, PartialEq, serde::Serialize)]
pub struct Verdict<'a> {
    /// Whether the sample is taken for one of an unseen task.
    pub unseen: bool,
    /// Its p-value among samples of known tasks; none while too few of these are known.
    pub p: Option<f32>,
    /// The methods that take it for unseen.
    pub why: Vec<&'a str>,
    /// The known tasks nearest to an unseen sample: the one on its path, and the one with the
    /// nearest features.
    pub nearest: Vec<&'a str>,
}

impl<'a> Verdict<'a> {
    /// The verdict on a row.
    pub fn of(predicted: &'a Predicted, row: usize) -> Verdict<'a> {
        let Some(recognized) = &predicted.recognized else {
            return Verdict::default();
        };
        let unseen = recognized.unseen[row];
        let mut verdict = Verdict {
            unseen,
            p: recognized.p_value(row),
            ..Verdict::default()
        };
        if unseen {
            let group = predicted.allocated.group_of[row] as usize;
            verdict.why = recognized.why(row, group).collect();
            verdict.nearest = recognized
                .nearest_to(row, group, &predicted.allocated.groups[group].path)
                .collect();
        }
        verdict
    }
}

/// Whether the prediction of a row is deferred to others.
pub fn is_deferred(predicted: &Predicted, row: usize) -> bool {
    let recognized: Option<&Recognized> = predicted.recognized.as_ref();
    recognized.is_some_and(|recognized| recognized.defers && recognized.unseen[row])
}

/// Texts that the samples of a group share.
pub(super) struct GroupText {
    pub task: String,
    pub model: String,
}

/// The texts of the groups of a batch.
pub(super) fn group_texts(predicted: &Predicted) -> Vec<GroupText> {
    let groups = predicted.allocated.groups.iter().zip(&predicted.pools);
    let texts = groups.map(|(group, pool)| {
        let model = pool.main();
        // The model is of a node of the group's own path.
        let owner = group.path.nodes.iter().find(|node| node.task == model.task);
        let owner = owner.map_or("", |node| &node.name);
        GroupText {
            task: group.path.leaf().name.to_string(),
            model: format!("{owner} @{}", model.version),
        }
    });
    texts.collect()
}

pub(super) fn site(batch: &Batch, row: usize) -> &str {
    batch.attribute(SITE, row)
}
