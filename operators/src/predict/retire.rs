//! Retirement of models that failed: something else takes their place from the next epoch on.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use timely::dataflow::channels::pact::Exchange;

use crate::data::ModelId;
use crate::epochs::Epochs;
use crate::flow::{Flow, ModelFailure, Predicted};

/// Collects the models that failed, all on worker 0: each model once, and once more when something
/// is found that takes its place. A failure belongs to a sample, and the sample to an epoch: the
/// result does not depend on the number of workers.
pub fn retire_failed<'scope>(predicted: Flow<'scope, Rc<Predicted>>) -> Flow<'scope, ModelFailure> {
    let mut known: BTreeSet<(ModelId, bool)> = BTreeSet::new();
    predicted
        .each("Failures", |predicted| predicted.failures.clone())
        .per_epoch(
            Exchange::new(|_: &ModelFailure| 0),
            "RetireFailed",
            move |_, failures: Vec<ModelFailure>, out| {
                for failure in each_once(failures) {
                    if known.insert((failure.model, failure.substitute.is_some())) {
                        out.give(failure);
                    }
                }
            },
        )
}

/// One failure a model, in the order of models: one with a substitute, if there is one.
fn each_once(failures: Vec<ModelFailure>) -> impl Iterator<Item = ModelFailure> {
    let mut each: BTreeMap<ModelId, ModelFailure> = BTreeMap::new();
    for failure in failures {
        let known = each.get(&failure.model);
        if known.is_none_or(|known| known.substitute.is_none()) {
            each.insert(failure.model, failure);
        }
    }
    each.into_values()
}
