//! Drift: detects tasks whose predictions lose more than before.
//!
//! Detectors watch, epoch by epoch, the share of wrong predictions, or the size of the error where
//! the label is a number; and, with labels or without, the strangeness of samples. Drift is a
//! [change](DriftDetected) of the knowledge base, and a [trigger](super::trigger) can order a
//! training on the samples since.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::Concat;
use timely::dataflow::operators::vec::Map;

use crate::algorithms::drift::{Detectors, DriftDetected, DriftMoved, DriftRules, Strangeness};
use crate::data::{TaskId, View};
use crate::epochs::Epochs;
use crate::flow::{Effect, Flow, KnowledgeChange};

/// Detectors of a worker's tasks.
struct Watchers {
    rules: DriftRules,
    tasks: FxHashMap<TaskId, Arc<Detectors>>,
}

/// New state of a task's detectors, and the drift that they have detected.
type Watched = (DriftMoved, Option<DriftDetected>);

impl Watchers {
    /// Takes in the observations of an epoch and returns the new states, by task.
    fn watch(&mut self, observations: Vec<Observation>) -> Vec<Watched> {
        let mut strangeness_of: BTreeMap<TaskId, Strangeness> = BTreeMap::new();
        let mut watched: BTreeMap<TaskId, Watched> = BTreeMap::new();
        for observation in observations {
            match observation {
                Observation::Standing(view) => {
                    watched.extend(self.watch_losses(&view).map(|new| (view.0, new)));
                }
                Observation::Strangeness(task, part) => {
                    strangeness_of.entry(task).or_default().add(&part);
                }
            }
        }
        for (task, strangeness) in strangeness_of {
            let (Some(delta), Some(known)) = (self.rules.features, self.tasks.get_mut(&task))
            else {
                continue;
            };
            let by_features = Arc::make_mut(known).look_at_features(task, &strangeness, delta);
            let detectors = known.clone();
            let moved = DriftMoved { task, detectors };
            // Losses that show drift too tell better when it began.
            let by_losses = watched.remove(&task).and_then(|(_, detected)| detected);
            watched.insert(task, (moved, by_losses.or(by_features)));
        }
        watched.into_values().collect()
    }

    fn watch_losses(&mut self, view: &View) -> Option<Watched> {
        let (task, standing) = view;
        if standing.total.labelled < self.rules.min_samples {
            return None;
        }
        let mut detectors = match self.tasks.get(task) {
            // A restart emits the standing again.
            Some(known) if known.seen == standing.total.score => return None,
            Some(known) => (**known).clone(),
            None => Detectors::new(standing),
        };
        let (looked, detected) = detectors.look(view, &self.rules);
        let detectors = Arc::new(detectors);
        self.tasks.insert(*task, detectors.clone());
        let moved = DriftMoved {
            task: *task,
            detectors,
        };
        looked.then_some((moved, detected))
    }
}

/// Observation of a task in an epoch.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Observation {
    Standing(View),
    Strangeness(TaskId, Strangeness),
}

impl Observation {
    fn task(&self) -> TaskId {
        match self {
            Observation::Standing((task, _)) | Observation::Strangeness(task, _) => *task,
        }
    }
}

/// Detects drift in the losses of tasks and in the strangeness of their samples. The first returned
/// stream has the drift, the second what is committed. `restored` are the detectors of this
/// worker's tasks as the knowledge base has them.
pub fn drift<'scope>(
    views: Flow<'scope, View>,
    strangeness: Flow<'scope, (TaskId, Strangeness)>,
    rules: DriftRules,
    restored: impl IntoIterator<Item = (TaskId, Arc<Detectors>)>,
) -> (Flow<'scope, DriftDetected>, Flow<'scope, Effect>) {
    let mut watchers = Watchers {
        rules,
        tasks: restored.into_iter().collect(),
    };
    let strangeness = strangeness.map(|(task, part)| Observation::Strangeness(task, part));
    let observations = views.map(Observation::Standing).concat(strangeness);
    // Differential dataflow spreads tasks over workers by a hash of its own.
    let by_task = Exchange::new(|observation: &Observation| observation.task().0);
    let watched: Flow<'scope, Watched> =
        observations.per_epoch(by_task, "Drift", move |_epoch, observations, out| {
            out.give_iterator(watchers.watch(observations).into_iter());
        });
    let detected = watched.clone().flat_map(|(_, detected)| detected);
    let effects = watched.flat_map(|(moved, detected)| {
        let moved = KnowledgeChange::DriftMoved(moved);
        let detected = detected.map(KnowledgeChange::DriftDetected);
        [moved].into_iter().chain(detected).map(Effect::from)
    });
    (detected, effects)
}
