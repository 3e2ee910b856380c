//! Drift: tasks whose predictions lose more than they used to.
//!
//! What is looked at is the share of wrong predictions, or where the label is a number the size of the error, epoch by
//! epoch; and how strange samples look, labels or none. Where it has risen, that is a [change](crate::algorithms::drift::DriftDetected) of the knowledge base, and a
//! [trigger](super::trigger) can order a training on what came since.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::Concat;
use timely::dataflow::operators::vec::Map;

pub use crate::algorithms::drift::Strangeness;
use crate::algorithms::drift::{Detectors, DriftDetected, DriftMoved, DriftRules};
use crate::data::{TaskId, View};
use crate::epochs::Epochs;
use crate::flow::{Effect, Flow, KnowledgeChange};

/// The detectors of a worker's tasks.
struct Watchers {
    rules: DriftRules,
    tasks: FxHashMap<TaskId, Arc<Detectors>>,
}

/// What is known of a task's losses from now on, and the drift that they show.
type Found = (DriftMoved, Option<DriftDetected>);

impl Watchers {
    /// Looks at all that an epoch brought.
    fn look_at(&mut self, looks: Vec<Look>) -> Vec<Found> {
        let mut strange: BTreeMap<TaskId, Strangeness> = BTreeMap::new();
        let mut found = BTreeMap::new();
        for look in looks {
            match look {
                Look::Standing(view) => found.extend(self.look(&view).map(|found| (view.0, found))),
                Look::Features(task, part) => strange.entry(task).or_default().add(&part),
            }
        }
        for (task, strangeness) in strange {
            let (Some(delta), Some(known)) = (self.rules.features, self.tasks.get_mut(&task))
            else {
                continue;
            };
            let detected = Arc::make_mut(known).look_at_features(task, &strangeness, delta);
            let detectors = known.clone();
            let moved = DriftMoved { task, detectors };
            // Where losses tell too, they tell better since when.
            let by_losses = found
                .remove(&task)
                .and_then(|(_, detected): Found| detected);
            found.insert(task, (moved, by_losses.or(detected)));
        }
        found.into_values().collect()
    }

    fn look(&mut self, view: &View) -> Option<Found> {
        let (task, standing) = view;
        if standing.total.labelled < self.rules.min_samples {
            return None;
        }
        let mut detectors = match self.tasks.get(task) {
            // What a restart tells again.
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

/// What is looked at.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Look {
    Standing(View),
    Features(TaskId, Strangeness),
}

impl Look {
    fn task(&self) -> TaskId {
        match self {
            Look::Standing((task, _)) | Look::Features(task, _) => *task,
        }
    }
}

/// Looks for drift in how tasks stand, and in how strange their samples look. `restored` are the detectors of this worker's
/// tasks as the knowledge base has them. The first stream is the drift that was found, the second what is committed.
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
    let features = strangeness.map(|(task, strangeness)| Look::Features(task, strangeness));
    let looks = views.map(Look::Standing).concat(features);
    // Differential dataflow assigns tasks to workers by a hash of its own.
    let by_task = Exchange::new(|look: &Look| look.task().0);
    let found: Flow<'scope, Found> =
        looks.per_epoch(by_task, "Drift", move |_epoch, looks, out| {
            out.give_iterator(watchers.look_at(looks).into_iter());
        });
    let detected = found.clone().flat_map(|(_, detected)| detected);
    let effects = found.flat_map(|(moved, detected)| {
        let detected = detected.map(KnowledgeChange::DriftDetected);
        [Some(KnowledgeChange::DriftMoved(moved)), detected]
            .into_iter()
            .flatten()
            .map(Effect::Change)
    });
    (detected, effects)
}
