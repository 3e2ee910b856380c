//! Drift: tasks whose predictions lose more than they used to.
//!
//! What is looked at is the share of wrong predictions, or where the label is a number the size of the error, epoch by
//! epoch; and how strange samples look, labels or none. Where it has risen, that is a [change](crate::DriftDetected) of the knowledge base, and a
//! [trigger](crate::trigger) can order a training on what came since.

mod adwin;
pub mod features;
mod page_hinkley;

use std::collections::BTreeMap;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::Concat;
use timely::dataflow::operators::generic::Operator;
use timely::dataflow::operators::vec::Map;

use crate::flow::{Effect, Flow};
use crate::stash::Stash;
use crate::statistics::View;
use crate::{DriftDetected, DriftMoved, KnowledgeChange, LabelKind, Score, TaskId};

pub use adwin::Adwin;
pub use features::Strangeness;
pub use page_hinkley::{PageHinkley, PageHinkleyRules};

/// How drift is looked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DriftRules {
    /// What is predicted.
    pub kind: LabelKind,
    /// The probability with which [`Adwin`] may be wrong about a window; none if it is not used.
    pub adwin: Option<f64>,
    /// What [`PageHinkley`] allows; none if it is not used.
    pub page_hinkley: Option<PageHinkleyRules>,
    /// The probability with which [`Adwin`] may be wrong about how strange samples look; none if that is not looked at.
    pub features: Option<f64>,
    /// Tasks with fewer labelled samples are not looked at.
    pub min_samples: i64,
}

impl DriftRules {
    /// Whether anything is looked for.
    pub fn any(&self) -> bool {
        self.adwin.is_some() || self.page_hinkley.is_some() || self.features.is_some()
    }
}

/// Who tells of drift.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Detector {
    /// See [`Adwin`].
    Adwin,
    /// See [`PageHinkley`].
    PageHinkley,
    /// See [`features`].
    Features,
}

/// By what losses have risen.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rise {
    /// The mean loss before: a share of wrong predictions, or the mean size of an error in the label's unit. Of features, how
    /// strange samples looked, a half if they looked like those before.
    pub before: f32,
    /// The mean loss since.
    pub after: f32,
    /// How many labels came since; of features none, since it tells at once.
    pub samples: i64,
}

/// What some predictions lost: 1 for a wrong class, the size of the error for a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Losses {
    /// How many.
    pub count: i64,
    /// Their sum.
    pub sum: f64,
    /// The sum of their squares.
    pub squares: f64,
}

impl Losses {
    fn add(&mut self, other: &Losses) {
        self.count += other.count;
        self.sum += other.sum;
        self.squares += other.squares;
    }

    fn take(&mut self, other: &Losses) {
        self.count -= other.count;
        self.sum -= other.sum;
        self.squares -= other.squares;
    }

    fn mean(&self) -> f64 {
        self.sum / self.count.max(1) as f64
    }

    fn variance(&self) -> f64 {
        let mean = self.mean();
        (self.squares / self.count.max(1) as f64 - mean * mean).max(0.0)
    }

    /// What a loss is measured by: 1 is the most that a wrong class loses; of numbers it is the root of the mean square.
    fn unit(&self, kind: LabelKind) -> f64 {
        match kind {
            LabelKind::Classes(_) => 1.0,
            LabelKind::Number => (self.squares / self.count.max(1) as f64).sqrt(),
        }
    }
}

/// What is known of a task's losses, and of the last drift.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Detectors {
    /// The score of all labels that were looked at.
    seen: Score,
    /// All labels then.
    labelled: i64,
    adwin: Adwin,
    page_hinkley: PageHinkley,
    features: Adwin,
    /// The last drift, if there was any.
    pub latest: Option<DriftDetected>,
}

impl Detectors {
    /// What was known when a run ended, for the next one: what came in between without being looked at is passed over.
    #[must_use]
    pub fn resume(self, seen: Score) -> Self {
        Detectors { seen, ..self }
    }

    /// Takes in how a task stands after an epoch. Says whether there was anything new, and the drift that it shows.
    fn look(
        &mut self,
        (task, standing): &View,
        rules: &DriftRules,
    ) -> (bool, Option<DriftDetected>) {
        let score = &standing.total.score;
        let losses = score.losses_since(&self.seen, rules.kind);
        self.seen = *score;
        self.labelled = standing.total.labelled;
        if losses.count == 0 {
            return (false, None);
        }
        let adwin = rules
            .adwin
            .and_then(|delta| self.adwin.add(losses, rules.kind, delta));
        let page_hinkley = rules
            .page_hinkley
            .and_then(|allowed| self.page_hinkley.add(losses, rules.kind, allowed));
        // Where both tell at once, ADWIN's window tells better since when.
        let adwin = adwin.map(|rise| (Detector::Adwin, rise));
        let page_hinkley = page_hinkley.map(|rise| (Detector::PageHinkley, rise));
        let detected = adwin
            .or(page_hinkley)
            .map(|(detector, rise)| DriftDetected {
                task: *task,
                detector,
                rise,
                labelled: standing.total.labelled,
            });
        self.latest = detected.or(self.latest);
        (true, detected)
    }
}

impl Detectors {
    /// Takes in how strange samples looked in an epoch.
    fn look_at_features(
        &mut self,
        task: TaskId,
        strangeness: &Strangeness,
        delta: f64,
    ) -> Option<DriftDetected> {
        // Both are shares.
        let share = LabelKind::Classes(2);
        let rise = self.features.add(strangeness.losses(), share, delta)?;
        self.latest = Some(DriftDetected {
            task,
            detector: Detector::Features,
            rise: Rise { samples: 0, ..rise },
            labelled: self.labelled,
        });
        self.latest
    }
}

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
            None => Detectors {
                seen: standing.total.score,
                labelled: standing.total.labelled,
                ..Detectors::default()
            },
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
    let found: Flow<'scope, Found> = looks.unary_frontier(
        // Differential dataflow has workers of its own for tasks.
        Exchange::new(|look: &Look| look.task().0),
        "Drift",
        move |_capability, _info| {
            let mut stash = Stash::new();
            move |(input, frontier), output| {
                input.for_each(|capability, looks| stash.hold(&capability, 0, looks.drain(..)));
                while let Some((_, capability, looks)) = stash.next(frontier) {
                    let found = watchers.look_at(looks);
                    output.session(&capability).give_iterator(found.into_iter());
                }
            }
        },
    );
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
