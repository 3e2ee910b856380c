//! Inference: each batch through the models of its tasks.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis, s};

use super::recognizer::Recognizer;
use crate::Failure;
use crate::algorithms::neighbours::Neighbours;
use crate::algorithms::pool::{
    Adapters, Corrections, Deployed, DeployedModelRef, Integration, Pool,
};
use crate::algorithms::recognize::{Recognized, UnseenAnswer};
pub use crate::algorithms::unseen::Trial;
use crate::data::{LabelKind, ModelId, TaskId, TaskPath};
use crate::flow::{AdapterMoved, Allocated, DeployedModel, Group, Phase, Predicted};

/// Where models live: loads them and runs them. ONNX Runtime in the product.
pub trait Models {
    /// Makes a model ready; its bytes may be kept, to make it ready again.
    fn load(&mut self, model: ModelId, onnx: &Arc<Vec<u8>>) -> Result<(), Failure>;

    /// Forgets a model.
    fn unload(&mut self, model: ModelId);

    /// Writes the class probabilities of `features` (samples × features) to `probabilities`
    /// (samples × classes), or the numbers that are predicted (samples × 1).
    fn predict(
        &mut self,
        model: ModelId,
        features: ArrayView2<'_, f32>,
        probabilities: ArrayViewMut2<'_, f32>,
    ) -> Result<(), Failure>;
}

/// Answers that the pipeline is compared with, from models that it has anyway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Baseline {
    /// The base model of the bootstrap, never changed.
    Frozen,
    /// The base model, retrained whenever the base task's triggers fire.
    Single,
}

/// The base model of the bootstrap.
const FROZEN: ModelId = ModelId {
    task: TaskId::BASE,
    version: 1,
};

/// How predictions are made of the answers of models.
#[derive(Clone, Copy, Debug)]
pub struct InferenceRules {
    /// What is predicted.
    pub kind: LabelKind,
    /// How the experts along a path are weighted.
    pub integration: Integration,
    /// Whether tasks correct the models that answer for them, and samples ask their neighbours.
    pub adapters: bool,
}

/// Predicts batches with the models that are deployed.
pub struct Predictor<M> {
    pub(super) models: M,
    pub(super) deployed: Deployed,
    pub(super) adapters: Adapters,
    pub(super) neighbours: Neighbours,
    recognizer: Option<Recognizer>,
    /// Unseen tasks that are to be tried.
    pub(super) trials: Vec<Arc<Trial>>,
    pub(super) rules: InferenceRules,
    baselines: Vec<Baseline>,
    /// Scratch: the rows of one model, gathered, and what it said of them.
    features: Vec<f32>,
    said: Array2<f32>,
}

impl<M: Models> Predictor<M> {
    /// A predictor without any model; `adapters` and `neighbours` are what tasks have learned before.
    pub fn new(
        models: M,
        rules: InferenceRules,
        baselines: Vec<Baseline>,
        adapters: Adapters,
        neighbours: Neighbours,
        recognizer: Option<Recognizer>,
    ) -> Self {
        Predictor {
            models,
            recognizer,
            trials: Vec::new(),
            deployed: Deployed::default(),
            adapters,
            neighbours,
            rules,
            baselines,
            features: Vec::new(),
            said: Array2::zeros((0, rules.kind.width())),
        }
    }

    /// Lets a model answer for its task from now on.
    pub fn deploy(&mut self, deployed: &DeployedModel) -> Result<(), Failure> {
        self.models.load(deployed.model, &deployed.onnx)?;
        let answering = DeployedModelRef {
            model: deployed.model,
            evidence: deployed.evidence,
            scale: deployed.scale,
        };
        let before = self.deployed.insert(deployed.model.task, answering);
        if let Some(before) = before.filter(|before| before.model != deployed.model) {
            self.unload(before.model);
        }
        Ok(())
    }

    /// Whether a model answers for its task.
    pub(crate) fn is_deployed(&self, model: ModelId) -> bool {
        let answering = self.deployed.get(&model.task);
        answering.is_some_and(|answering| answering.model == model)
    }

    /// Lets a task's model answer no more.
    pub fn retire(&mut self, task: TaskId) {
        if let Some(answering) = self.deployed.remove(&task) {
            self.unload(answering.model);
        }
    }

    /// Takes in what a task has learned.
    pub fn adapt(&mut self, moved: &AdapterMoved) {
        self.adapters.insert(moved.task, moved.adapter.clone());
    }

    /// Tries an unseen task with the next batch.
    pub fn attempt_next(&mut self, trial: Arc<Trial>) {
        self.trials.push(trial);
    }

    /// Tells the recognizer, if there is one.
    pub(crate) fn recognize(&mut self, tell: impl FnOnce(&mut Recognizer)) {
        self.recognizer.as_mut().map(tell);
    }

    /// Forgets a model, unless a baseline still answers by it.
    fn unload(&mut self, model: ModelId) {
        if !self.is_baseline(model) {
            self.models.unload(model);
        }
    }

    fn is_baseline(&self, model: ModelId) -> bool {
        model == FROZEN && self.baselines.contains(&Baseline::Frozen)
    }

    /// Predicts a batch. Batches of the bootstrap pass without predictions.
    pub fn predict(&mut self, allocated: Rc<Allocated>) -> Result<Predicted, Failure> {
        let rows = allocated.batch.len();
        let width = self.rules.kind.width();
        let tried = self.attempts()?;
        let allocated = self.move_to_regions(allocated);
        if allocated.header.phase != Phase::Live || rows == 0 {
            return Ok(Predicted {
                allocated,
                probabilities: Array2::zeros((0, width)),
                pools: Vec::new(),
                outputs: Array2::zeros((0, width)),
                baselines: Vec::new(),
                recognized: None,
                trials: tried,
            });
        }
        let pools = self.pools(&allocated)?;
        let most = pools.iter().map(|pool| pool.answers()).max();
        let mut answers = Array2::zeros((rows, most.unwrap_or(1) * width));
        for (model, asked) in by_model(&pools) {
            self.ask(model, &allocated, &asked, &mut answers)?;
        }
        let mut probabilities = Array2::zeros((rows, width));
        let rows = answers.rows_mut().into_iter().zip(probabilities.rows_mut());
        let features = allocated.batch.features.rows();
        for (((mut answers, mut to), features), group) in
            rows.zip(features).zip(&allocated.group_of)
        {
            if let (Some(answers), Some(to), Some(features)) = (
                answers.as_slice_mut(),
                to.as_slice_mut(),
                features.as_slice(),
            ) {
                self.integrate(&pools[*group as usize], features, answers, to);
            }
        }
        let baselines = self.baselines(&allocated, &pools, &answers)?;
        let recognizer = self.recognizer.as_mut();
        let recognized = recognizer
            .map(|recognizer| recognizer.recognize(&allocated, &pools, &answers, &probabilities));
        if let Some(recognized) = &recognized {
            self.answer_unseen(&allocated, recognized, &mut probabilities)?;
        }
        Ok(Predicted {
            allocated,
            probabilities,
            pools,
            outputs: answers,
            baselines,
            recognized,
            trials: tried,
        })
    }

    /// Gives the samples that are in regions to the tasks of these, whatever their attributes say.
    fn move_to_regions(&mut self, allocated: Rc<Allocated>) -> Rc<Allocated> {
        let regions = match &mut self.recognizer {
            Some(recognizer) if allocated.header.phase == Phase::Live => {
                recognizer.regions_of(&allocated.batch)
            }
            _ => return allocated,
        };
        if regions.is_empty() {
            return allocated;
        }
        let paths: Vec<Option<&TaskPath>> = regions
            .iter()
            .map(|region| region.map(|region| &region.path))
            .collect();
        Rc::new(Rc::unwrap_or_clone(allocated).moved(&paths))
    }

    /// Lets the base model alone answer to unseen samples, if it is to.
    fn answer_unseen(
        &mut self,
        allocated: &Allocated,
        recognized: &Recognized,
        probabilities: &mut Array2<f32>,
    ) -> Result<(), Failure> {
        let answer = self.recognizer.as_ref().map(Recognizer::answer);
        let base = self.deployed.get(&TaskId::BASE).map(|base| base.model);
        let (Some(UnseenAnswer::Base), Some(base)) = (answer, base) else {
            return Ok(());
        };
        let unseen = recognized.unseen.iter().enumerate();
        let rows: Vec<usize> = unseen
            .filter(|(_, unseen)| **unseen)
            .map(|(row, _)| row)
            .collect();
        if rows.is_empty() {
            return Ok(());
        }
        let features = allocated.batch.features.select(Axis(0), &rows);
        let mut said = Array2::zeros((rows.len(), probabilities.ncols()));
        self.models
            .predict(base, features.view(), said.view_mut())?;
        for (row, said) in rows.into_iter().zip(said.rows()) {
            probabilities.row_mut(row).assign(&said);
        }
        Ok(())
    }

    /// Makes the answers to one sample one, and asks its neighbours in between.
    fn integrate(
        &mut self,
        pool: &Pool,
        features: &[f32],
        answers: &mut [f32],
        probabilities: &mut [f32],
    ) {
        let width = self.rules.kind.width();
        let (models, rest) = answers.split_at_mut(pool.models.len() * width);
        pool.integrate(models, probabilities);
        if pool.neighbours.is_empty() {
            return;
        }
        let places = rest.chunks_exact_mut(width);
        for (task, to) in pool.neighbours.iter().zip(places) {
            self.neighbours
                .answer(*task, features, self.rules.kind, probabilities, to);
        }
        pool.conclude(rest, probabilities);
    }

    /// For each group how its answers become one.
    fn pools(&self, allocated: &Allocated) -> Result<Vec<Rc<Pool>>, Failure> {
        let InferenceRules {
            kind,
            integration,
            adapters,
        } = self.rules;
        let lessons = adapters.then_some(Corrections {
            adapters: &self.adapters,
            neighbours: &self.neighbours,
        });
        let pool = |group: &Group| {
            let pool = Pool::new(&group.path, &self.deployed, lessons, integration, kind);
            pool.map(Rc::new).ok_or_else(|| {
                Failure::from(format!(
                    "no model answers for task \"{}\": not even the base task has one",
                    group.path.leaf().name
                ))
            })
        };
        allocated.groups.iter().map(pool).collect()
    }

    /// Runs a model once for the groups that ask it, each with its place among those that they ask, and puts what it said
    /// at that place.
    fn ask(
        &mut self,
        model: ModelId,
        allocated: &Allocated,
        asked: &[(usize, usize)],
        answers: &mut Array2<f32>,
    ) -> Result<(), Failure> {
        let values = self.rules.kind.width();
        let features = &allocated.batch.features;
        let (rows, width) = features.dim();
        let rows_of = |group: usize| {
            let group = &allocated.groups[group];
            &allocated.order[group.start..group.end]
        };
        let count: usize = asked.iter().map(|(group, _)| rows_of(*group).len()).sum();
        if count == rows && answers.ncols() == values {
            return self
                .models
                .predict(model, features.view(), answers.view_mut());
        }
        if self.said.nrows() < count {
            self.said = Array2::zeros((count, values));
        }
        let mut said = self.said.slice_mut(s![..count, ..]);
        if count == rows {
            self.models
                .predict(model, features.view(), said.view_mut())?;
        } else {
            let Some(all) = features.as_slice() else {
                return Err("a batch's features are not row by row in memory".into());
            };
            self.features.clear();
            for row in asked.iter().flat_map(|(group, _)| rows_of(*group)) {
                let start = *row as usize * width;
                self.features.extend_from_slice(&all[start..start + width]);
            }
            let gathered = ArrayView2::from_shape((count, width), &self.features)?;
            self.models.predict(model, gathered, said.view_mut())?;
        }
        let stride = answers.ncols();
        let (Some(said), Some(to)) = (said.as_slice(), answers.as_slice_mut()) else {
            return Err("predictions are not row by row in memory".into());
        };
        let mut gathered = 0;
        for (group, place) in asked {
            for row in rows_of(*group) {
                let row = *row as usize;
                let from = if count == rows { row } else { gathered } * values;
                let start = row * stride + place * values;
                to[start..start + values].copy_from_slice(&said[from..from + values]);
                gathered += 1;
            }
        }
        Ok(())
    }

    /// What the baselines say; a model that every group has asked first has said it already.
    fn baselines(
        &mut self,
        allocated: &Allocated,
        pools: &[Rc<Pool>],
        answers: &Array2<f32>,
    ) -> Result<Vec<Array2<f32>>, Failure> {
        let width = self.rules.kind.width();
        let base = self.deployed.get(&TaskId::BASE);
        let single = base.map_or(FROZEN, |base| base.model);
        let mut said: Vec<Array2<f32>> = Vec::with_capacity(self.baselines.len());
        for baseline in &self.baselines {
            let model = match baseline {
                Baseline::Frozen => FROZEN,
                Baseline::Single => single,
            };
            if pools.iter().all(|pool| pool.models.first() == Some(&model)) {
                said.push(answers.slice(s![.., ..width]).to_owned());
                continue;
            }
            let mut probabilities = Array2::zeros((allocated.batch.len(), width));
            let features = allocated.batch.features.view();
            self.models
                .predict(model, features, probabilities.view_mut())?;
            said.push(probabilities);
        }
        Ok(said)
    }
}

/// For each model, in order, the groups that ask it, and its place among those that they ask.
fn by_model(pools: &[Rc<Pool>]) -> BTreeMap<ModelId, Vec<(usize, usize)>> {
    let mut asked: BTreeMap<ModelId, Vec<(usize, usize)>> = BTreeMap::new();
    for (group, pool) in pools.iter().enumerate() {
        for (place, model) in pool.models.iter().enumerate() {
            asked.entry(*model).or_default().push((group, place));
        }
    }
    asked
}
