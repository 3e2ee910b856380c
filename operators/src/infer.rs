//! Inference: each batch through the models of its tasks.

use std::collections::BTreeMap;
use std::rc::Rc;

use ndarray::{Array2, ArrayView2, ArrayViewMut2, s};
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;

use crate::flow::{Allocated, DeployedModel, Deployment, Flow, Scored};
use crate::integrate::{Deployed, leaf};
use crate::stash::Stash;
use crate::{Epoch, Failure, ModelId, Phase, TaskId};

/// Where models live: loads them and runs them. ONNX Runtime in the product.
pub trait Models {
    /// Makes a model ready.
    fn load(&mut self, model: ModelId, onnx: &[u8]) -> Result<(), Failure>;

    /// Forgets a model.
    fn unload(&mut self, model: ModelId);

    /// Writes the class probabilities of `features` (samples × features) to `probabilities`
    /// (samples × classes).
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

/// Predicts batches with the models that are deployed.
pub struct Predictor<M> {
    models: M,
    deployed: Deployed,
    classes: usize,
    baselines: Vec<Baseline>,
    /// Scratch: the rows of one model, gathered, and what it said of them.
    features: Vec<f32>,
    probabilities: Array2<f32>,
}

impl<M: Models> Predictor<M> {
    /// A predictor without any model.
    pub fn new(models: M, classes: usize, baselines: Vec<Baseline>) -> Self {
        Predictor {
            models,
            deployed: Deployed::default(),
            classes,
            baselines,
            features: Vec::new(),
            probabilities: Array2::zeros((0, classes)),
        }
    }

    /// Lets a model answer for its task from now on.
    pub fn deploy(&mut self, deployed: &DeployedModel) -> Result<(), Failure> {
        self.models.load(deployed.model, &deployed.onnx)?;
        let before = self.deployed.insert(deployed.model.task, deployed.model);
        if let Some(before) = before.filter(|before| *before != deployed.model) {
            self.unload(before);
        }
        Ok(())
    }

    /// Lets a task's model answer no more.
    pub fn retire(&mut self, task: TaskId) {
        if let Some(model) = self.deployed.remove(&task) {
            self.unload(model);
        }
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
    pub fn score(&mut self, allocated: Rc<Allocated>) -> Result<Scored, Failure> {
        let rows = allocated.batch.len();
        if allocated.header.phase != Phase::Scored || rows == 0 {
            return Ok(Scored {
                allocated,
                probabilities: Array2::zeros((0, self.classes)),
                models: Vec::new(),
                baselines: Vec::new(),
            });
        }
        let models = self.answering(&allocated)?;
        let mut probabilities = Array2::zeros((rows, self.classes));
        for (model, groups) in by_model(&models) {
            let order: Vec<&[u32]> = groups
                .iter()
                .map(|group| &allocated.groups[*group])
                .map(|group| &allocated.order[group.start..group.end])
                .collect();
            self.predict_rows(model, &allocated, &order, &mut probabilities)?;
        }
        let baselines = self.baselines(&allocated)?;
        Ok(Scored {
            allocated,
            probabilities,
            models,
            baselines,
        })
    }

    /// For each group the model that answers.
    fn answering(&self, allocated: &Allocated) -> Result<Vec<ModelId>, Failure> {
        allocated
            .groups
            .iter()
            .map(|group| {
                leaf(&group.path, &self.deployed).ok_or_else(|| {
                    Failure::from(format!(
                        "no model answers for task \"{}\": not even the base task has one",
                        group.path.leaf().name
                    ))
                })
            })
            .collect()
    }

    /// Gathers the rows of one model, runs it once, and scatters what it said.
    fn predict_rows(
        &mut self,
        model: ModelId,
        allocated: &Allocated,
        order: &[&[u32]],
        probabilities: &mut Array2<f32>,
    ) -> Result<(), Failure> {
        let features = &allocated.batch.features;
        let rows: usize = order.iter().map(|part| part.len()).sum();
        if rows == features.nrows() && order.len() == 1 {
            return self
                .models
                .predict(model, features.view(), probabilities.view_mut());
        }
        let width = features.ncols();
        let Some(all) = features.as_slice() else {
            return Err("a batch's features are not row by row in memory".into());
        };
        self.features.clear();
        for row in order.iter().flat_map(|part| part.iter()) {
            let start = *row as usize * width;
            self.features.extend_from_slice(&all[start..start + width]);
        }
        if self.probabilities.nrows() < rows {
            self.probabilities = Array2::zeros((rows, self.classes));
        }
        let gathered = ArrayView2::from_shape((rows, width), &self.features)?;
        let mut said = self.probabilities.slice_mut(s![..rows, ..]);
        self.models.predict(model, gathered, said.view_mut())?;
        let (Some(said), Some(to)) = (said.as_slice(), probabilities.as_slice_mut()) else {
            return Err("predictions are not row by row in memory".into());
        };
        let classes = self.classes;
        let rows = order.iter().flat_map(|part| part.iter());
        for (from, row) in said.chunks_exact(classes).zip(rows) {
            let start = *row as usize * classes;
            to[start..start + classes].copy_from_slice(from);
        }
        Ok(())
    }

    fn baselines(&mut self, allocated: &Allocated) -> Result<Vec<Array2<f32>>, Failure> {
        let single = self.deployed.get(&TaskId::BASE).copied().unwrap_or(FROZEN);
        let mut answers: Vec<Array2<f32>> = Vec::with_capacity(self.baselines.len());
        for baseline in &self.baselines {
            let model = match baseline {
                Baseline::Frozen => FROZEN,
                Baseline::Single => single,
            };
            let mut probabilities = Array2::zeros((allocated.batch.len(), self.classes));
            self.models.predict(
                model,
                allocated.batch.features.view(),
                probabilities.view_mut(),
            )?;
            answers.push(probabilities);
        }
        Ok(answers)
    }
}

/// The groups of each model, models in order, so that rows of one model are predicted together.
fn by_model(models: &[ModelId]) -> BTreeMap<ModelId, Vec<usize>> {
    let mut groups: BTreeMap<ModelId, Vec<usize>> = BTreeMap::new();
    for (group, model) in models.iter().enumerate() {
        groups.entry(*model).or_default().push(group);
    }
    groups
}

/// Predicts every batch with the models deployed before its epoch. `deployments` is the feedback
/// edge, broadcast to every worker: a model that arrives at epoch `e` answers from `e` on, so an epoch waits until nothing can
/// arrive for it any more and never sees two models of a task.
pub fn infer<'scope, M: Models + 'static>(
    allocated: Flow<'scope, Rc<Allocated>>,
    deployments: Flow<'scope, Deployment>,
    mut predictor: Predictor<M>,
    fail: impl Fn(Failure) + 'static,
) -> Flow<'scope, Rc<Scored>> {
    allocated.binary_frontier(
        deployments,
        Pipeline,
        Pipeline,
        "Infer",
        move |_capability, _info| {
            let mut batches: Stash<Rc<Allocated>> = Stash::new();
            let mut deployments: BTreeMap<Epoch, Vec<Deployment>> = BTreeMap::new();
            let mut failed = false;
            move |(input, _), (models, models_frontier), output| {
                input.for_each(|capability, allocated| {
                    batches.hold(&capability, 0, allocated.drain(..));
                });
                models.for_each(|capability, arrived| {
                    if let Some(epoch) = capability.least() {
                        deployments.entry(*epoch).or_default().append(arrived);
                    }
                });
                if failed {
                    return;
                }
                while let Some((epoch, capability, mut allocated)) = batches.next(models_frontier) {
                    let result =
                        deploy_until(&mut deployments, epoch, &mut predictor).and_then(|()| {
                            let mut session = output.session(&capability);
                            for batch in allocated.drain(..) {
                                session.give(Rc::new(predictor.score(batch)?));
                            }
                            Ok(())
                        });
                    if let Err(failure) = result {
                        // The frontier stays where it is: what failed has not happened.
                        batches.put_back(epoch, capability, allocated);
                        failed = true;
                        fail(failure);
                        return;
                    }
                }
            }
        },
    )
}

/// Deploys what has arrived for the epochs up to `epoch`.
fn deploy_until<M: Models>(
    deployments: &mut BTreeMap<Epoch, Vec<Deployment>>,
    epoch: Epoch,
    predictor: &mut Predictor<M>,
) -> Result<(), Failure> {
    while let Some(entry) = deployments.first_entry() {
        if *entry.key() > epoch {
            break;
        }
        let mut models = entry.remove();
        models.sort_by_key(Deployment::task);
        for deployment in &models {
            match deployment {
                Deployment::Deploy(model) => predictor.deploy(model)?,
                Deployment::Retire(task) => predictor.retire(*task),
            }
        }
    }
    Ok(())
}
