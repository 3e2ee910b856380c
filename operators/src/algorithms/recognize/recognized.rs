//! The verdicts on the samples of a batch: unseen or not, why, and what is nearest.

use std::sync::Arc;

use super::calibration::NoveltyScores;
use super::method::{METHODS, Method};
use super::reference::Reference;
use crate::data::TaskPath;

/// What is answered to a sample of no known task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnseenAnswer {
    /// What the nearest tasks of its path that are known say.
    Nearest,
    /// What the base model says alone.
    Base,
    /// Nothing.
    Defer,
}

/// How unseen samples are recognized.
#[derive(Clone, Debug)]
pub struct RecognitionRules {
    /// Whether attribute values tell.
    pub attributes: bool,
    /// The scores that tell.
    pub methods: Vec<Method>,
    /// The share of samples of known tasks that are taken for unseen.
    pub false_alarm: f32,
    /// Labels after which a task is known.
    pub known_after: i64,
    /// The most unseen tasks that are kept.
    pub groups: usize,
    /// What is answered.
    pub answer: UnseenAnswer,
}

/// What is recognized of the samples of a batch.
#[derive(Clone, Debug, Default)]
pub struct Recognized {
    /// The scores of each sample, and its p-values by the same; NaN where there are none.
    pub scores: Vec<NoveltyScores>,
    /// See `scores`.
    pub p: Vec<NoveltyScores>,
    /// Whether each is taken for unseen.
    pub unseen: Vec<bool>,
    /// By group of the batch, the first task of its path that is not known, as a place on the path.
    pub new_from: Vec<Option<usize>>,
    /// By group of the batch, whether it is that of a [region](crate::algorithms::unseen::region).
    pub in_region: Vec<bool>,
    /// The place of the task of the reference that is nearest to each.
    pub nearest: Vec<u32>,
    /// What nearest tasks are places in.
    pub reference: Option<Arc<Reference>>,
    /// Whether attribute values tell.
    pub by_attributes: bool,
    /// See [`RecognitionRules::false_alarm`].
    pub false_alarm: f32,
    /// Whether nothing is answered to unseen samples.
    pub defers: bool,
}

impl Recognized {
    /// The p-value of a row by all methods together; none where too few samples of known tasks were scored.
    pub fn p_of(&self, row: usize) -> Option<f32> {
        Some(self.p[row][METHODS]).filter(|p| !p.is_nan())
    }

    /// What tells that a row, of this group, is unseen.
    pub fn why(&self, row: usize, group: usize) -> impl Iterator<Item = &'static str> {
        let p = &self.p[row];
        let is_new = self.new_from[group].is_some();
        let region = (is_new && self.in_region[group]).then_some("region");
        let is_new = is_new && self.by_attributes && !self.in_region[group];
        let strange = p[METHODS] <= self.false_alarm;
        // Where none tells alone, they do together.
        let least = p[..METHODS].iter().copied().fold(f32::INFINITY, f32::min);
        let limit = least.max(self.false_alarm);
        let methods = Method::ALL.iter().filter(move |_| strange);
        let telling = methods.filter(move |method| p[**method as usize] <= limit);
        let attributes = is_new.then_some("attributes");
        attributes
            .into_iter()
            .chain(region)
            .chain(telling.map(|method| method.name()))
    }

    /// The known tasks that are nearest to a row of a group: the finest on its path, and the one with the nearest features.
    pub fn nearest_to<'a>(
        &'a self,
        row: usize,
        place: usize,
        path: &'a TaskPath,
    ) -> impl Iterator<Item = &'a str> {
        let nodes = &path.nodes;
        let finest = match self.new_from[place] {
            Some(new) => nodes[..new].last(),
            None => nodes.last(),
        };
        let finest = finest.map(|node| (node.task, &*node.name));
        let known = self.reference.as_ref().map(|reference| &reference.tasks);
        let known = known.and_then(|tasks| tasks.get(self.nearest[row] as usize));
        let alike = known.map(|task| (task.task, &*task.name));
        let other = alike.filter(move |(task, _)| Some(*task) != finest.map(|(task, _)| task));
        finest.into_iter().chain(other).map(|(_, name)| name)
    }
}
