//! Models that fail: what answers for their samples, and what takes their place.
//!
//! A sample for which a model fails is answered by the others on its path. Each sample is looked at
//! by itself, so that its prediction does not depend on the batch that it came in. From the next
//! epoch on, something else takes the place of the model, if something else had an answer.

use std::collections::BTreeMap;
use std::rc::Rc;

use ndarray::{Array2, ArrayView2, ArrayViewMut2, s};

use super::predictor::{Models, Predictor};
use crate::algorithms::pool::Pool;
use crate::data::{LabelKind, ModelId, TaskId, TaskPath};
use crate::flow::{Allocated, DeployedModel, ModelFailure, Substitute};

/// Failures of models, each model once.
#[derive(Default)]
pub(super) struct Failures(BTreeMap<ModelId, (String, Option<Substitute>)>);

impl Failures {
    /// Adds the failure of a model; the first reason stays.
    pub fn add(&mut self, model: ModelId, reason: String) {
        self.0.entry(model).or_insert((reason, None));
    }

    /// Sets what takes the place of a model that failed.
    pub fn replace(&mut self, model: ModelId, substitute: Substitute) {
        if let Some((_, slot)) = self.0.get_mut(&model) {
            *slot = Some(substitute);
        }
    }

    /// Takes all failures.
    pub fn take(&mut self) -> Vec<ModelFailure> {
        let all = std::mem::take(&mut self.0).into_iter();
        all.map(|(model, (reason, substitute))| ModelFailure {
            model,
            reason,
            substitute,
        })
        .collect()
    }
}

/// An output that a model did not give: of a row, by the model with this index in its pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct MissingOutput {
    pub row: usize,
    pub index: usize,
}

/// A row for which models failed.
struct FailedRow<'a> {
    features: ArrayView2<'a, f32>,
    path: &'a TaskPath,
    pool: &'a Pool,
    missing: &'a [MissingOutput],
}

/// Runs a model. Returns the rows for which it fails, in order; their output is left open.
pub(super) fn run<M: Models>(
    models: &mut M,
    failures: &mut Failures,
    model: ModelId,
    features: ArrayView2<'_, f32>,
    mut output: ArrayViewMut2<'_, f32>,
) -> Vec<usize> {
    let Err(reason) = models.predict(model, features, output.view_mut()) else {
        return Vec::new();
    };
    failures.add(model, reason.to_string());
    let fails = |row: &usize| {
        let rows = *row..row + 1;
        let output = output.slice_mut(s![rows.clone(), ..]);
        let one = models.predict(model, features.slice(s![rows, ..]), output);
        one.is_err()
    };
    (0..features.nrows()).filter(fails).collect()
}

/// Fills an output that says nothing: all classes alike, or no number.
pub(super) fn fill_unanswered(kind: LabelKind, output: &mut [f32]) {
    output.fill(match kind {
        LabelKind::Classes(classes) => 1.0 / classes as f32,
        LabelKind::Number => f32::NAN,
    });
}

impl<M: Models> Predictor<M> {
    /// Fills outputs that models did not give: by the next model above on the path, for the base
    /// task by the model before it, or else by the next model below.
    pub(super) fn fill_in(
        &mut self,
        mut missing: Vec<MissingOutput>,
        allocated: &Allocated,
        pools: &[Rc<Pool>],
        outputs: &mut Array2<f32>,
    ) {
        if missing.is_empty() {
            return;
        }
        missing.sort_unstable();
        let spare = self.load_spare();
        for of_row in missing.chunk_by(|one, other| one.row == other.row) {
            let row = of_row[0].row;
            let group = allocated.group_of[row] as usize;
            let failed = FailedRow {
                features: allocated.batch.features.slice(s![row..row + 1, ..]),
                path: &allocated.groups[group].path,
                pool: &pools[group],
                missing: of_row,
            };
            if let Some(outputs) = outputs.row_mut(row).as_slice_mut() {
                self.fill_row(&failed, spare.as_ref(), outputs);
            }
        }
        if let Some(spare) = spare {
            self.unload(spare.model);
        }
    }

    /// Fills the outputs of one row, from coarse to fine.
    fn fill_row(
        &mut self,
        row: &FailedRow<'_>,
        spare: Option<&DeployedModel>,
        outputs: &mut [f32],
    ) {
        let width = self.rules.kind.width();
        let mut given = vec![true; row.pool.models.len()];
        for one in row.missing {
            given[one.index] = false;
        }
        for MissingOutput { index, .. } in row.missing.iter().copied() {
            let model = row.pool.models[index];
            let (earlier, later) = outputs.split_at_mut(index * width);
            let (output, later) = later.split_at_mut(width);
            if self.ask_above(model.task, row, &given, earlier, output) {
                given[index] = true;
                self.failures.replace(model, Substitute::Above);
                continue;
            }
            let spare = spare.filter(|_| model.task == TaskId::BASE);
            if let Some(spare) = spare.filter(|spare| self.ask(spare.model, row, output)) {
                given[index] = true;
                let spare = spare.clone();
                self.failures.replace(model, Substitute::Earlier(spare));
                continue;
            }
            match given[index + 1..].iter().position(|given| *given) {
                Some(below) => output.copy_from_slice(&later[below * width..][..width]),
                None => fill_unanswered(self.rules.kind, output),
            }
        }
    }

    /// Fills an output by the next model above a task. That may be one that counts for too little
    /// to be in the pool. `earlier` has the outputs of the coarser models in it. Returns whether
    /// one has an answer.
    fn ask_above(
        &mut self,
        task: TaskId,
        row: &FailedRow<'_>,
        given: &[bool],
        earlier: &[f32],
        output: &mut [f32],
    ) -> bool {
        let width = output.len();
        let nodes = row.path.nodes.iter();
        let above: Vec<ModelId> = nodes
            .take_while(|node| node.task != task)
            .filter_map(|node| Some(self.deployed.get(&node.task)?.model))
            .collect();
        above.into_iter().rev().any(|model| {
            let index = row.pool.models.iter().position(|it| *it == model);
            match index {
                Some(index) if given[index] => {
                    output.copy_from_slice(&earlier[index * width..][..width]);
                    true
                }
                Some(_) => false,
                None => self.ask(model, row, output),
            }
        })
    }

    /// Fills an output by a model. Returns whether it has an answer.
    fn ask(&mut self, model: ModelId, row: &FailedRow<'_>, output: &mut [f32]) -> bool {
        let output = ArrayViewMut2::from_shape((1, output.len()), output);
        output.is_ok_and(|output| self.models.predict(model, row.features, output).is_ok())
    }

    /// Loads the spare model of the base task, if there is one that loads.
    fn load_spare(&mut self) -> Option<DeployedModel> {
        let spare = self.spare.clone()?;
        self.models.load(spare.model, &spare.onnx).ok()?;
        Some(spare)
    }
}
