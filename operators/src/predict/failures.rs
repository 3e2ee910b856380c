//! Failures of models, sample by sample: what a sample gets must not depend on the batch that it
//! came in.

use std::collections::BTreeMap;

use ndarray::{ArrayView2, ArrayViewMut2, s};

use super::models::Models;
use crate::data::{LabelKind, ModelId};
use crate::flow::{ModelFailure, Substitute};

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
