//! Verdicts on the samples of a batch: unseen or not, why, and which known tasks are nearest.

use std::sync::Arc;

use super::calibration::NoveltyScores;
use super::method::{METHODS, Method};
use super::reference::Reference;
use crate::data::TaskPath;

/// Prediction that a sample of no known task gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnseenAnswer {
    /// That of the known tasks on its path.
    Nearest,
    /// That of the base model alone.
    Base,
    /// None: it is deferred.
    Defer,
}

/// Rules of recognition.
#[derive(Clone, Debug)]
pub struct RecognitionRules {
    /// Whether a sample with an unknown attribute value is unseen.
    pub attributes: bool,
    /// Methods that score samples.
    pub methods: Vec<Method>,
    /// Share of known tasks' samples that are taken for unseen: the limit of p-values.
    pub false_alarm: f32,
    /// Number of labels from which on a task is known.
    pub known_after: i64,
    /// Most unseen tasks that are kept.
    pub groups: usize,
    /// Prediction that unseen samples get.
    pub answer: UnseenAnswer,
}

/// Verdicts on the samples of a batch, by row and by group of rows with one path.
#[derive(Clone, Debug, Default)]
pub struct Recognized {
    /// Novelty scores, by row.
    pub scores: Vec<NoveltyScores>,
    /// P-values of the scores, by row; NaN = none.
    pub p: Vec<NoveltyScores>,
    /// Whether the sample is taken for unseen, by row.
    pub unseen: Vec<bool>,
    /// Depth of the first task of the path that is not known, by group.
    pub first_unknown: Vec<Option<usize>>,
    /// Whether the group is that of a [region](crate::algorithms::unseen::Region), by group.
    pub in_region: Vec<bool>,
    /// Index of the nearest task of the reference, by row.
    pub nearest: Vec<u32>,
    /// The reference.
    pub reference: Option<Arc<Reference>>,
    /// Whether a sample with an unknown attribute value is unseen.
    pub by_attributes: bool,
    /// Limit of p-values: [`RecognitionRules::false_alarm`].
    pub false_alarm: f32,
    /// Whether unseen samples get no prediction.
    pub defers: bool,
}

impl Recognized {
    /// P-value of a row by all methods together; none while too few known samples are scored.
    pub fn p_value(&self, row: usize) -> Option<f32> {
        Some(self.p[row][METHODS]).filter(|p| !p.is_nan())
    }

    /// Reasons why a row of this group is unseen: `attributes`, `region`, and names of methods.
    pub fn why(&self, row: usize, group: usize) -> impl Iterator<Item = &'static str> {
        let p = &self.p[row];
        let (is_new, in_region) = (self.first_unknown[group].is_some(), self.in_region[group]);
        let by_attributes = is_new && self.by_attributes && !in_region;
        let attributes = by_attributes.then_some("attributes");
        let region = (is_new && in_region).then_some("region");
        let is_outlier = p[METHODS] <= self.false_alarm;
        // If no p-value is within the limit alone, the method with the least one is named.
        let least = p[..METHODS].iter().copied().fold(f32::INFINITY, f32::min);
        let limit = least.max(self.false_alarm);
        let methods = Method::ALL
            .iter()
            .filter(move |method| is_outlier && p[**method as usize] <= limit);
        attributes
            .into_iter()
            .chain(region)
            .chain(methods.map(|method| method.name()))
    }

    /// Names of the known tasks nearest to a row of this group: the finest on its path, and the one
    /// with the nearest features, if it is another.
    pub fn nearest_to<'a>(
        &'a self,
        row: usize,
        group: usize,
        path: &'a TaskPath,
    ) -> impl Iterator<Item = &'a str> {
        let nodes = &path.nodes;
        let on_path = match self.first_unknown[group] {
            Some(new) => nodes[..new].last(),
            None => nodes.last(),
        };
        let by_features = self
            .reference
            .as_ref()
            .and_then(|reference| reference.tasks.get(self.nearest[row] as usize))
            .filter(|task| Some(task.task) != on_path.map(|node| node.task));
        let names = on_path.map(|node| &*node.name);
        names.into_iter().chain(by_features.map(|task| &*task.name))
    }
}
