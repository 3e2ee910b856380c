//! Prediction of batches by the models of their tasks.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use ndarray::{Array2, ArrayView2, Axis, s};

use super::failures::{Failures, MissingOutput, fill_unanswered, run};
use super::models::Models;
use super::recognizer::Recognizer;
use crate::algorithms::neighbours::Neighbours;
use crate::algorithms::pool::{
    Adapters, Corrections, Deployed, DeployedModelRef, Integration, Pool,
};
use crate::algorithms::recognize::{Recognized, UnseenAnswer};
use crate::algorithms::unseen::Trial;
use crate::data::{LabelKind, ModelId, TaskId, TaskPath};
use crate::error::{Failure, OperatorError};
use crate::flow::{AdapterMoved, Allocated, DeployedModel, Group, Phase, Predicted, Substitute};

/// Baseline that the pipeline is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Baseline {
    /// The base model of the bootstrap, unchanged.
    Frozen,
    /// The base model, retrained whenever the base task's triggers fire.
    Single,
}

/// The base model of the bootstrap.
const FROZEN: ModelId = ModelId {
    task: TaskId::BASE,
    version: 1,
};

/// Rules by which model outputs become predictions.
#[derive(Clone, Copy, Debug)]
pub struct InferenceRules {
    /// Kind of label.
    pub kind: LabelKind,
    /// Weighting of the experts along a path.
    pub integration: Integration,
    /// Whether adapters and neighbours correct the models.
    pub adapters: bool,
}

/// Predictor of batches, with the deployed models and their corrections.
pub struct Predictor<M> {
    pub(super) models: M,
    pub(super) deployed: Deployed,
    pub(super) adapters: Adapters,
    pub(super) neighbours: Neighbours,
    recognizer: Option<Recognizer>,
    /// The deployed model of the base task, with its bytes.
    base: Option<DeployedModel>,
    /// The model that it replaced, which takes its place if it fails.
    pub(super) spare: Option<DeployedModel>,
    /// Models that failed since the last batch.
    pub(super) failures: Failures,
    /// Trials to run with the next batch.
    pub(super) trials: Vec<Arc<Trial>>,
    pub(super) rules: InferenceRules,
    baselines: Vec<Baseline>,
    /// Scratch: the gathered rows of one model.
    features: Vec<f32>,
    /// Scratch: the model's outputs for them.
    output: Array2<f32>,
}

impl<M: Models> Predictor<M> {
    /// Predictor without models. `adapters` and `neighbours` are what tasks have learned before.
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
            base: None,
            spare: None,
            failures: Failures::default(),
            trials: Vec::new(),
            deployed: Deployed::default(),
            adapters,
            neighbours,
            rules,
            baselines,
            features: Vec::new(),
            output: Array2::zeros((0, rules.kind.width())),
        }
    }

    /// Deploys a model for its task, in place of the one that is deployed.
    ///
    /// # Errors
    ///
    /// Fails if the model cannot be loaded.
    pub fn deploy(&mut self, model: &DeployedModel) -> Result<(), Failure> {
        self.models.load(model.model, &model.onnx)?;
        let deployed = DeployedModelRef {
            model: model.model,
            evidence: model.evidence,
            scale: model.scale,
        };
        let replaced = self.deployed.insert(model.model.task, deployed);
        if let Some(replaced) = replaced.filter(|replaced| replaced.model != model.model) {
            self.unload(replaced.model);
        }
        if model.model.task == TaskId::BASE {
            let replaced = self.base.replace(model.clone());
            self.spare = replaced.filter(|replaced| replaced.model != model.model);
        }
        Ok(())
    }

    /// Deploys a model, or what is to take its place if it does not load.
    ///
    /// # Errors
    ///
    /// Fails if the base task would be left without a model.
    pub fn deploy_or_substitute(&mut self, model: &DeployedModel) -> Result<(), Failure> {
        let Err(reason) = self.deploy(model) else {
            return Ok(());
        };
        let substitute = match (model.model.task, &self.base) {
            (TaskId::BASE, None) => return Err(reason),
            (TaskId::BASE, Some(earlier)) => Substitute::Earlier(earlier.clone()),
            (task, _) => {
                self.retire(task);
                Substitute::Above
            }
        };
        self.failures.add(model.model, reason.to_string());
        self.failures.replace(model.model, substitute);
        Ok(())
    }

    /// Restores an earlier model of a task, if `from` is deployed.
    ///
    /// # Errors
    ///
    /// Fails if the model does not load.
    pub fn restore(&mut self, from: ModelId, to: &DeployedModel) -> Result<(), Failure> {
        if self.is_deployed(from) {
            self.deploy_or_substitute(to)?;
            // The model that it replaces has failed, or did worse.
            self.spare = None;
        }
        Ok(())
    }

    /// Sets the model that takes the place of the base task's one, if that fails.
    pub fn set_spare(&mut self, spare: DeployedModel) {
        self.spare = Some(spare);
    }

    /// Whether a model is the deployed one of its task.
    pub(crate) fn is_deployed(&self, model: ModelId) -> bool {
        let deployed = self.deployed.get(&model.task);
        deployed.is_some_and(|deployed| deployed.model == model)
    }

    /// Retires the deployed model of a task.
    pub fn retire(&mut self, task: TaskId) {
        if let Some(retired) = self.deployed.remove(&task) {
            self.unload(retired.model);
        }
        if task == TaskId::BASE {
            (self.base, self.spare) = (None, None);
        }
    }

    /// Replaces the adapter of a task.
    pub fn adapt(&mut self, moved: &AdapterMoved) {
        self.adapters.insert(moved.task, moved.adapter.clone());
    }

    /// Adds a trial, to run with the next batch.
    pub fn add_trial(&mut self, trial: Arc<Trial>) {
        self.trials.push(trial);
    }

    /// Calls `update` with the recognizer, if there is one.
    pub(super) fn update_recognizer(&mut self, update: impl FnOnce(&mut Recognizer)) {
        self.recognizer.as_mut().map(update);
    }

    /// Unloads a model, unless a baseline still needs it.
    pub(super) fn unload(&mut self, model: ModelId) {
        if !self.is_baseline(model) {
            self.models.unload(model);
        }
    }

    fn is_baseline(&self, model: ModelId) -> bool {
        model == FROZEN && self.baselines.contains(&Baseline::Frozen)
    }

    /// Predicts a batch, after the trials that are due. A batch of the bootstrap passes without
    /// predictions.
    ///
    /// A sample for which a model fails is answered by the others on its path.
    ///
    /// # Errors
    ///
    /// Fails if a task has no model.
    pub fn predict(&mut self, allocated: Rc<Allocated>) -> Result<Predicted, Failure> {
        let rows = allocated.batch.len();
        let width = self.rules.kind.width();
        let trials = self.run_trials()?;
        let allocated = self.move_to_regions(allocated);
        if allocated.header.phase != Phase::Live || rows == 0 {
            return Ok(Predicted {
                allocated,
                probabilities: Array2::zeros((0, width)),
                pools: Vec::new(),
                outputs: Array2::zeros((0, width)),
                baselines: Vec::new(),
                recognized: None,
                trials,
                failures: self.failures.take(),
            });
        }
        let pools = self.pools(&allocated)?;
        let most = pools.iter().map(|pool| pool.outputs()).max();
        let mut outputs = Array2::zeros((rows, most.unwrap_or(1) * width));
        let mut failed = Vec::new();
        for (model, users) in by_model(&pools) {
            self.run_model(model, &allocated, &users, &mut outputs, &mut failed)?;
        }
        self.fill_in(failed, &allocated, &pools, &mut outputs);
        let mut probabilities = Array2::zeros((rows, width));
        let rows = outputs.rows_mut().into_iter().zip(probabilities.rows_mut());
        let features = allocated.batch.features.rows();
        for (((mut outputs, mut prediction), features), group) in
            rows.zip(features).zip(&allocated.group_of)
        {
            if let (Some(outputs), Some(prediction), Some(features)) = (
                outputs.as_slice_mut(),
                prediction.as_slice_mut(),
                features.as_slice(),
            ) {
                self.integrate(&pools[*group as usize], features, outputs, prediction);
            }
        }
        let baselines = self.baselines(&allocated, &pools, &outputs);
        let recognized = self
            .recognizer
            .as_mut()
            .map(|it| it.recognize(&allocated, &pools, &outputs, &probabilities));
        if let Some(recognized) = &recognized {
            self.predict_unseen(&allocated, recognized, &mut probabilities);
        }
        Ok(Predicted {
            allocated,
            probabilities,
            pools,
            outputs,
            baselines,
            recognized,
            trials,
            failures: self.failures.take(),
        })
    }

    /// Moves the samples that lie in regions to the tasks of these, whatever their attributes are.
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

    /// Replaces the predictions of unseen samples by those of the base model, if the rules say so.
    fn predict_unseen(
        &mut self,
        allocated: &Allocated,
        recognized: &Recognized,
        probabilities: &mut Array2<f32>,
    ) {
        let answer = self.recognizer.as_ref().map(Recognizer::answer);
        let base = self.deployed.get(&TaskId::BASE).map(|base| base.model);
        let (Some(UnseenAnswer::Base), Some(base)) = (answer, base) else {
            return;
        };
        let rows: Vec<usize> = recognized
            .unseen
            .iter()
            .enumerate()
            .filter(|(_, unseen)| **unseen)
            .map(|(row, _)| row)
            .collect();
        if rows.is_empty() {
            return;
        }
        let features = allocated.batch.features.select(Axis(0), &rows);
        let mut output = Array2::zeros((rows.len(), probabilities.ncols()));
        let (models, failures) = (&mut self.models, &mut self.failures);
        let missing = run(models, failures, base, features.view(), output.view_mut());
        for (at, (row, output)) in rows.into_iter().zip(output.rows()).enumerate() {
            // Where the base model fails, what the path predicts stays.
            if missing.binary_search(&at).is_err() {
                probabilities.row_mut(row).assign(&output);
            }
        }
    }

    /// Makes one prediction of the model outputs for a sample. Neighbours correct what the models
    /// predict together, and their outputs are filled in here.
    fn integrate(
        &mut self,
        pool: &Pool,
        features: &[f32],
        outputs: &mut [f32],
        prediction: &mut [f32],
    ) {
        let width = self.rules.kind.width();
        let (of_models, of_neighbours) = outputs.split_at_mut(pool.models.len() * width);
        pool.integrate(of_models, prediction);
        if pool.neighbours.is_empty() {
            return;
        }
        let chunks = of_neighbours.chunks_exact_mut(width);
        for (task, output) in pool.neighbours.iter().zip(chunks) {
            self.neighbours
                .predict(*task, features, self.rules.kind, prediction, output);
        }
        pool.mix_neighbours(of_neighbours, prediction);
    }

    /// The pool of each group.
    fn pools(&self, allocated: &Allocated) -> Result<Vec<Rc<Pool>>, OperatorError> {
        let InferenceRules {
            kind,
            integration,
            adapters,
        } = self.rules;
        let corrections = adapters.then_some(Corrections {
            adapters: &self.adapters,
            neighbours: &self.neighbours,
        });
        let pool = |group: &Group| {
            let pool = Pool::new(&group.path, &self.deployed, corrections, integration, kind);
            pool.map(Rc::new).ok_or_else(|| OperatorError::NoModel {
                task: group.path.leaf().name.clone(),
            })
        };
        allocated.groups.iter().map(pool).collect()
    }

    /// Runs a model once for all groups that use it, and copies its output to its columns of
    /// `outputs`. `users` has each group with the model's index in the group's pool. Adds the
    /// outputs that it does not give to `missing`.
    fn run_model(
        &mut self,
        model: ModelId,
        allocated: &Allocated,
        users: &[(usize, usize)],
        outputs: &mut Array2<f32>,
        missing: &mut Vec<MissingOutput>,
    ) -> Result<(), Failure> {
        let width = self.rules.kind.width();
        let (models, failures) = (&mut self.models, &mut self.failures);
        let features = &allocated.batch.features;
        let (rows, feature_count) = features.dim();
        let rows_of = |group: usize| {
            let group = &allocated.groups[group];
            &allocated.order[group.start..group.end]
        };
        let count: usize = users.iter().map(|(group, _)| rows_of(*group).len()).sum();
        if count == rows && outputs.ncols() == width {
            let failed = run(models, failures, model, features.view(), outputs.view_mut());
            missing.extend(
                failed
                    .into_iter()
                    .map(|row| MissingOutput { row, index: 0 }),
            );
            return Ok(());
        }
        if self.output.nrows() < count {
            self.output = Array2::zeros((count, width));
        }
        let mut output = self.output.slice_mut(s![..count, ..]);
        let failed = if count == rows {
            run(models, failures, model, features.view(), output.view_mut())
        } else {
            let all = features
                .as_slice()
                .ok_or(OperatorError::Layout("a batch's features"))?;
            self.features.clear();
            for row in users.iter().flat_map(|(group, _)| rows_of(*group)) {
                let start = *row as usize * feature_count;
                self.features
                    .extend_from_slice(&all[start..start + feature_count]);
            }
            let gathered = ArrayView2::from_shape((count, feature_count), &self.features)?;
            run(models, failures, model, gathered, output.view_mut())
        };
        let stride = outputs.ncols();
        let (Some(output), Some(outputs)) = (output.as_slice(), outputs.as_slice_mut()) else {
            return Err(OperatorError::Layout("predictions").into());
        };
        let mut gathered = 0;
        for (group, index) in users {
            for row in rows_of(*group) {
                let (row, index) = (*row as usize, *index);
                let from = if count == rows { row } else { gathered };
                if !failed.is_empty() && failed.binary_search(&from).is_ok() {
                    missing.push(MissingOutput { row, index });
                }
                let (from, to) = (from * width, row * stride + index * width);
                outputs[to..to + width].copy_from_slice(&output[from..from + width]);
                gathered += 1;
            }
        }
        Ok(())
    }

    /// Baseline predictions. Reuses the first columns of `outputs` if every group's first model is
    /// the baseline.
    fn baselines(
        &mut self,
        allocated: &Allocated,
        pools: &[Rc<Pool>],
        outputs: &Array2<f32>,
    ) -> Vec<Array2<f32>> {
        let width = self.rules.kind.width();
        let base = self.deployed.get(&TaskId::BASE);
        let single = base.map_or(FROZEN, |base| base.model);
        let mut baselines: Vec<Array2<f32>> = Vec::with_capacity(self.baselines.len());
        for baseline in &self.baselines {
            let model = match baseline {
                Baseline::Frozen => FROZEN,
                Baseline::Single => single,
            };
            if pools.iter().all(|pool| pool.models.first() == Some(&model)) {
                baselines.push(outputs.slice(s![.., ..width]).to_owned());
                continue;
            }
            let mut probabilities = Array2::zeros((allocated.batch.len(), width));
            let features = allocated.batch.features.view();
            let (models, failures) = (&mut self.models, &mut self.failures);
            for row in run(models, failures, model, features, probabilities.view_mut()) {
                if let Some(output) = probabilities.row_mut(row).as_slice_mut() {
                    fill_unanswered(self.rules.kind, output);
                }
            }
            baselines.push(probabilities);
        }
        baselines
    }
}

/// The groups that use each model, each with the model's index in its pool; models in order.
fn by_model(pools: &[Rc<Pool>]) -> BTreeMap<ModelId, Vec<(usize, usize)>> {
    let mut users: BTreeMap<ModelId, Vec<(usize, usize)>> = BTreeMap::new();
    for (group, pool) in pools.iter().enumerate() {
        for (index, model) in pool.models.iter().enumerate() {
            users.entry(*model).or_default().push((group, index));
        }
    }
    users
}
