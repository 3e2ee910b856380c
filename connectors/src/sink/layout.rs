//! What there is to a prediction, whatever it is written as.

use perennial_operators::algorithms::recognize::Recognized;
use perennial_operators::flow::Predicted;
use perennial_operators::{Batch, SITE};

/// Which parts a prediction has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// The classes of the label, each with a probability; without any the label is a number.
    pub classes: Vec<String>,
    /// Whether it says if the sample is of a known task.
    pub recognizes: bool,
}

impl Layout {
    /// Predictions of these classes, or of a number, that say nothing of whether tasks are known.
    pub fn of(classes: &[String]) -> Layout {
        Layout {
            classes: classes.to_vec(),
            recognizes: false,
        }
    }
}

/// What is said of a sample's task.
#[derive(Debug, Default, PartialEq, serde::Serialize)]
pub struct Verdict<'a> {
    /// Whether the sample is taken for one of no known task.
    pub unseen: bool,
    /// How usual it is among samples of known tasks; none where too few of these are known.
    pub p: Option<f32>,
    /// What tells that it is unseen.
    pub why: Vec<&'a str>,
    /// The known tasks that are nearest to an unseen sample: the one on its path, and the one with the nearest features.
    pub nearest: Vec<&'a str>,
}

impl<'a> Verdict<'a> {
    /// What is said of a row.
    pub fn of(scored: &'a Predicted, row: usize) -> Verdict<'a> {
        let Some(recognized) = &scored.recognized else {
            return Verdict::default();
        };
        let unseen = recognized.unseen[row];
        let mut verdict = Verdict {
            unseen,
            p: recognized.p_of(row),
            ..Verdict::default()
        };
        if unseen {
            let group = scored.allocated.group_of[row] as usize;
            verdict.why = recognized.why(row, group).collect();
            verdict.nearest = recognized
                .nearest_to(row, group, &scored.allocated.groups[group].path)
                .collect();
        }
        verdict
    }
}

/// Whether the answer to a row is left to others.
pub fn is_deferred(scored: &Predicted, row: usize) -> bool {
    let recognized: Option<&Recognized> = scored.recognized.as_ref();
    recognized.is_some_and(|recognized| recognized.defers && recognized.unseen[row])
}

/// What a group's samples have in common.
pub(super) struct GroupText {
    pub task: String,
    pub model: String,
}

/// The texts of the groups of a batch.
pub(super) fn group_texts(scored: &Predicted) -> Vec<GroupText> {
    let groups = scored.allocated.groups.iter().zip(&scored.pools);
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
