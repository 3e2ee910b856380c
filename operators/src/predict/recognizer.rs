//! Recognition of unseen samples: decides whether a sample belongs to a known task.
//!
//! A sample with an attribute value that has no labels yet is unseen. Any other sample gets novelty
//! scores: the distance of its features from those of known tasks, and the uncertainty of its
//! prediction. The [calibration](Calibration) with samples of known tasks turns each score into a
//! p-value. Fisher's −Σ ln p combines them (Fisher 1932, "Statistical Methods for Research
//! Workers", §21.1), and is calibrated once more, since the scores depend on each other.

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

/// Recognizer of unseen samples.
pub struct Recognizer {
    rules: RecognitionRules,
    reference: Option<Arc<Reference>>,
    calibration: Option<Arc<Calibration>>,
    known: FxHashSet<TaskId>,
    regions: Arc<Vec<Region>>,
    scratch: Scratch,
}

impl Recognizer {
    /// Recognizer that knows these tasks.
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

    /// Kind of prediction that unseen samples get.
    pub fn answer(&self) -> UnseenAnswer {
        self.rules.answer
    }

    /// Compares samples with these samples of known tasks from now on.
    pub fn compare_with(&mut self, reference: Arc<Reference>) {
        self.reference = Some(reference);
    }

    /// Compares scores with this calibration from now on.
    pub fn calibrate(&mut self, calibration: Arc<Calibration>) {
        self.calibration = Some(calibration);
    }

    /// Adds a known task.
    pub fn add_task(&mut self, task: TaskId) {
        self.known.insert(task);
    }

    /// Replaces the regions.
    pub fn set_regions(&mut self, regions: Arc<Vec<Region>>) {
        self.regions = regions;
    }

    /// The region of each row of a batch, if it is in one; empty if no row is.
    pub fn regions_of(&mut self, batch: &Batch) -> Vec<Option<&Region>> {
        let (Some(reference), Some(calibration)) = (&self.reference, &self.calibration) else {
            return Vec::new();
        };
        let radius = calibration.quantile(Method::Density as usize, self.rules.false_alarm);
        let Some(radius) = radius.filter(|_| !self.regions.is_empty()) else {
            return Vec::new();
        };
        let mut regions = Vec::new();
        for (row, features) in batch.features.rows().into_iter().enumerate() {
            let Some(features) = features.as_slice() else {
                continue;
            };
            let nearest = self
                .regions
                .iter()
                .map(|region| {
                    let distance = reference.distance(features, &region.centre, &mut self.scratch);
                    (distance, region)
                })
                .min_by(|(one, _), (other, _)| one.total_cmp(other));
            let Some((distance, region)) = nearest.filter(|(distance, _)| *distance <= radius)
            else {
                continue;
            };
            let known = reference.nearness(features, false, &mut self.scratch);
            let known_task = reference.tasks.get(known.task).map(|task| task.task);
            // The task of a region has a centre in the reference too, once it is known.
            if known_task == Some(region.path.leaf().task) || distance < known.density {
                regions.resize(batch.len(), None);
                regions[row] = Some(region);
            }
        }
        regions
    }

    /// Recognizes the samples of a batch by the `outputs` of the models and neighbours in `pools`,
    /// and by the predictions (`probabilities`) that these make together.
    pub fn recognize(
        &mut self,
        allocated: &Allocated,
        pools: &[Rc<Pool>],
        outputs: &Array2<f32>,
        probabilities: &Array2<f32>,
    ) -> Recognized {
        let rows = allocated.batch.len();
        let mut recognized = Recognized {
            scores: Vec::with_capacity(rows),
            p: Vec::with_capacity(rows),
            unseen: Vec::with_capacity(rows),
            first_unknown: allocated
                .groups
                .iter()
                .map(|group| self.first_unknown(group))
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
        let rows = probabilities.rows().into_iter().zip(outputs.rows());
        let features = allocated.batch.features.rows();
        for (((prediction, outputs), features), group) in
            rows.zip(features).zip(&allocated.group_of)
        {
            let group = *group as usize;
            let (Some(prediction), Some(outputs), Some(features)) = (
                prediction.as_slice(),
                outputs.as_slice(),
                features.as_slice(),
            ) else {
                continue;
            };
            let (scores, nearest) = self.scores(features, &pools[group], outputs, prediction);
            let by_path = self.rules.attributes || recognized.in_region[group];
            let is_new = recognized.first_unknown[group].is_some() && by_path;
            self.judge(scores, nearest, is_new, &mut recognized);
        }
        recognized
    }

    /// Depth of the first task of the group's path that is not known.
    fn first_unknown(&self, group: &Group) -> Option<usize> {
        let is_new = |task: &TaskId| !self.known.contains(task);
        let mut nodes = group.path.nodes.iter().map(|node| node.task);
        nodes.position(|task| is_new(&task))
    }

    /// Whether the group's task is that of an open region.
    fn in_region(&self, group: &Group) -> bool {
        let leaf = group.path.leaf().task;
        let mut regions = self.regions.iter().filter(|region| region.open);
        regions.any(|region| region.path.leaf().task == leaf)
    }

    /// Novelty scores of a sample, and the index of the nearest task in the reference.
    fn scores(
        &mut self,
        features: &[f32],
        pool: &Pool,
        outputs: &[f32],
        prediction: &[f32],
    ) -> (NoveltyScores, u32) {
        let mut scores = [f32::NAN; METHODS + 1];
        let mut nearest = 0;
        let methods = &self.rules.methods;
        let by_features = methods.contains(&Method::Density) || methods.contains(&Method::Nearest);
        if let Some(reference) = &self.reference
            && by_features
        {
            let among_samples = methods.contains(&Method::Nearest);
            let near = reference.nearness(features, among_samples, &mut self.scratch);
            scores[Method::Density as usize] = near.density;
            scores[Method::Nearest as usize] = near.nearest;
            nearest = near.task as u32;
        }
        for method in methods {
            let score = match method {
                Method::Density | Method::Nearest => continue,
                Method::Probability => probability(prediction),
                Method::Entropy => entropy(prediction),
                Method::Disagreement => pool.disagreement(outputs, prediction),
            };
            scores[*method as usize] = score;
        }
        (scores, nearest)
    }

    /// Turns the scores of a sample into p-values and a verdict, and adds all of them to
    /// `recognized`.
    fn judge(
        &self,
        mut scores: NoveltyScores,
        nearest: u32,
        is_new: bool,
        recognized: &mut Recognized,
    ) {
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
        recognized
            .unseen
            .push(is_new || p[METHODS] <= self.rules.false_alarm);
        recognized.scores.push(scores);
        recognized.p.push(p);
        recognized.nearest.push(nearest);
    }
}
