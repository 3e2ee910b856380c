//! Fallback: what answers for samples for which models failed.
//!
//! The next model above on the path answers, or for the base task the model before. If one of them
//! has an answer, it takes the place of the failed model from the next epoch on.

use std::rc::Rc;

use ndarray::{Array2, ArrayView2, ArrayViewMut2, s};

use super::failures::{MissingOutput, fill_unanswered};
use super::models::Models;
use super::predictor::Predictor;
use crate::algorithms::pool::Pool;
use crate::data::{ModelId, TaskId, TaskPath};
use crate::flow::{Allocated, DeployedModel, Substitute};

/// A row for which models failed.
struct FailedRow<'a> {
    features: ArrayView2<'a, f32>,
    path: &'a TaskPath,
    pool: &'a Pool,
    missing: &'a [MissingOutput],
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
