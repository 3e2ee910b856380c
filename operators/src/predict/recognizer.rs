//! Recognition of unseen samples: whether a sample is of a task that is known.
//!
//! An attribute value of which there are no labels yet says it at once. Otherwise a sample is scored: how far its features
//! are from those of known tasks, and how unsure the answer to it is. Each score is turned into a p-value by
//! [calibration] with samples of known tasks; together they are Fisher's −Σ ln p (Fisher 1932, "Statistical
//! Methods for Research Workers", §21.1), calibrated once more, since they depend on each other.

use std::rc::Rc;
use std::sync::Arc;

use ndarray::Array2;
use rustc_hash::FxHashSet;

use crate::algorithms::pool::Pool;
use crate::algorithms::recognize::{
    Calibration, METHODS, Method, NoveltyScores, RecognitionRules, Recognized, Reference, Scratch,
    UnseenAnswer, entropy, probability,
};
use crate::algorithms::unseen::Region;
use crate::data::{Batch, TaskId};
use crate::flow::{Allocated, Group};

/// Recognizes unseen samples.
pub struct Recognizer {
    rules: RecognitionRules,
    reference: Option<Arc<Reference>>,
    calibration: Option<Arc<Calibration>>,
    known: FxHashSet<TaskId>,
    regions: Arc<Vec<Region>>,
    scratch: Scratch,
}

impl Recognizer {
    /// A recognizer to which these tasks are known.
    pub fn new(rules: RecognitionRules, known: impl IntoIterator<Item = TaskId>) -> Self {
        Recognizer {
            rules,
            reference: None,
            calibration: None,
            known: known.into_iter().collect(),
            regions: Arc::default(),
            scratch: Scratch::default(),
        }
    }

    /// What is answered to unseen samples.
    pub fn answer(&self) -> UnseenAnswer {
        self.rules.answer
    }

    /// Takes in what samples of known tasks look like.
    pub fn compare_with(&mut self, reference: Arc<Reference>) {
        self.reference = Some(reference);
    }

    /// Takes in how usual scores are.
    pub fn calibrate(&mut self, calibration: Arc<Calibration>) {
        self.calibration = Some(calibration);
    }

    /// A task is known from now on.
    pub fn know(&mut self, task: TaskId) {
        self.known.insert(task);
    }

    /// Takes in where samples are that look like none of known tasks.
    pub fn divide(&mut self, regions: Arc<Vec<Region>>) {
        self.regions = regions;
    }

    /// The regions that samples of a batch are in, by row; nothing if none is in any.
    pub fn regions_of(&mut self, batch: &Batch) -> Vec<Option<&Region>> {
        let (Some(reference), Some(calibration)) = (&self.reference, &self.calibration) else {
            return Vec::new();
        };
        let radius = calibration.quantile(Method::Density as usize, self.rules.false_alarm);
        let (Some(radius), false) = (radius, self.regions.is_empty()) else {
            return Vec::new();
        };
        let mut found = Vec::new();
        for (row, features) in batch.features.rows().into_iter().enumerate() {
            let Some(features) = features.as_slice() else {
                continue;
            };
            let apart = self.regions.iter().map(|region| {
                let apart = reference.apart(features, &region.centre, &mut self.scratch);
                (apart, region)
            });
            let nearest = apart.min_by(|(one, _), (other, _)| one.total_cmp(other));
            let Some((apart, region)) = nearest.filter(|(apart, _)| *apart <= radius) else {
                continue;
            };
            let known = reference.nearness(features, false, &mut self.scratch);
            let of = reference.tasks.get(known.task).map(|task| task.task);
            // Once it is known, the task of a region has a centre of its own.
            if of == Some(region.path.leaf().task) || apart < known.density {
                found.resize(batch.len(), None);
                found[row] = Some(region);
            }
        }
        found
    }

    /// Recognizes the samples of a batch, to which these answers were given.
    pub fn recognize(
        &mut self,
        allocated: &Allocated,
        pools: &[Rc<Pool>],
        answers: &Array2<f32>,
        probabilities: &Array2<f32>,
    ) -> Recognized {
        let rows = allocated.batch.len();
        let mut recognized = Recognized {
            scores: Vec::with_capacity(rows),
            p: Vec::with_capacity(rows),
            unseen: Vec::with_capacity(rows),
            new_from: allocated
                .groups
                .iter()
                .map(|group| self.new_from(group))
                .collect(),
            in_region: allocated
                .groups
                .iter()
                .map(|group| self.in_region(group))
                .collect(),
            nearest: Vec::with_capacity(rows),
            reference: self.reference.clone(),
            by_attributes: self.rules.attributes,
            false_alarm: self.rules.false_alarm,
            defers: self.rules.answer == UnseenAnswer::Defer,
        };
        let answered = probabilities.rows().into_iter().zip(answers.rows());
        let features = allocated.batch.features.rows();
        for (((answer, said), features), group) in answered.zip(features).zip(&allocated.group_of) {
            let group = *group as usize;
            let (Some(answer), Some(said), Some(features)) =
                (answer.as_slice(), said.as_slice(), features.as_slice())
            else {
                continue;
            };
            let (scores, nearest) = self.scores(features, &pools[group], said, answer);
            let by_attributes = self.rules.attributes || recognized.in_region[group];
            let is_new = recognized.new_from[group].is_some() && by_attributes;
            self.judge(scores, nearest, is_new, &mut recognized);
        }
        recognized
    }

    fn new_from(&self, group: &Group) -> Option<usize> {
        let is_new = |task: &TaskId| !self.known.contains(task);
        let mut nodes = group.path.nodes.iter().map(|node| node.task);
        nodes.position(|task| is_new(&task))
    }

    fn in_region(&self, group: &Group) -> bool {
        let leaf = group.path.leaf().task;
        let mut regions = self.regions.iter().filter(|region| region.open);
        regions.any(|region| region.path.leaf().task == leaf)
    }

    /// The scores of a sample, and the place of the nearest task.
    fn scores(
        &mut self,
        features: &[f32],
        pool: &Pool,
        said: &[f32],
        answer: &[f32],
    ) -> (NoveltyScores, u32) {
        let mut scores = [f32::NAN; METHODS + 1];
        let mut nearest = 0;
        let methods = &self.rules.methods;
        let by_features = methods.contains(&Method::Density) || methods.contains(&Method::Nearest);
        if let (Some(reference), true) = (&self.reference, by_features) {
            let among_samples = methods.contains(&Method::Nearest);
            let near = reference.nearness(features, among_samples, &mut self.scratch);
            scores[Method::Density as usize] = near.density;
            scores[Method::Nearest as usize] = near.nearest;
            nearest = near.task as u32;
        }
        for method in methods {
            let score = match method {
                Method::Density | Method::Nearest => continue,
                Method::Probability => probability(answer),
                Method::Entropy => entropy(answer),
                Method::Disagreement => pool.disagreement(said, answer),
            };
            scores[*method as usize] = score;
        }
        (scores, nearest)
    }

    /// Turns scores into p-values, and these into a verdict.
    fn judge(&self, mut scores: NoveltyScores, nearest: u32, is_new: bool, to: &mut Recognized) {
        let mut p = [f32::NAN; METHODS + 1];
        if let Some(calibration) = &self.calibration {
            let mut sum = 0.0;
            for method in &self.rules.methods {
                let method = *method as usize;
                if let Some(value) = calibration.p(method, scores[method]) {
                    p[method] = value;
                    sum -= value.ln();
                }
            }
            scores[METHODS] = sum;
            if let Some(value) = calibration.p(METHODS, sum) {
                p[METHODS] = value;
            }
        }
        to.unseen
            .push(is_new || p[METHODS] <= self.rules.false_alarm);
        to.scores.push(scores);
        to.p.push(p);
        to.nearest.push(nearest);
    }
}
