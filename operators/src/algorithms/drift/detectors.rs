//! Drift detectors of one task, and the rules that configure them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Adwin, PageHinkley, PageHinkleyRules, Strangeness};
use crate::data::{LabelKind, Rise, Score, Standing, TaskId, View};

/// A task's detectors took in new losses or features.
///
/// Stored as [`KnowledgeChange::DriftMoved`](crate::flow::KnowledgeChange::DriftMoved).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DriftMoved {
    /// The task.
    pub task: TaskId,
    /// Its detectors from the next epoch on.
    pub detectors: Arc<Detectors>,
}

/// A task's losses, or the strangeness of its features, have risen.
///
/// Stored as [`KnowledgeChange::DriftDetected`](crate::flow::KnowledgeChange::DriftDetected).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DriftDetected {
    /// The task.
    pub task: TaskId,
    /// Detector that found it.
    pub detector: Detector,
    /// The rise.
    pub rise: Rise,
    /// Number of the task's labelled samples at that time.
    pub labelled: i64,
}

/// Rules of drift detection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DriftRules {
    /// Kind of the label.
    pub kind: LabelKind,
    /// False-alarm probability of [`Adwin`] on losses; none to turn it off.
    pub adwin: Option<f64>,
    /// Tolerances of [`PageHinkley`] on losses; none to turn it off.
    pub page_hinkley: Option<PageHinkleyRules>,
    /// False-alarm probability of [`Adwin`] on the [strangeness](Strangeness) of features; none to
    /// turn it off.
    pub features: Option<f64>,
    /// Least number of labelled samples of a task whose losses are tested.
    pub min_samples: i64,
}

impl DriftRules {
    /// Whether any detector is turned on.
    pub fn any(&self) -> bool {
        self.adwin.is_some() || self.page_hinkley.is_some() || self.features.is_some()
    }
}

/// Detector that found a drift.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Detector {
    /// [`Adwin`] on losses.
    Adwin,
    /// [`PageHinkley`] on losses.
    PageHinkley,
    /// [`Adwin`] on the [strangeness](Strangeness) of features.
    Features,
}

/// State of a task's detectors, and its last drift.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Detectors {
    /// Score of all labels that the detectors have seen.
    pub(crate) seen: Score,
    /// Number of the task's labels at that time.
    labelled: i64,
    adwin: Adwin,
    page_hinkley: PageHinkley,
    features: Adwin,
    /// The last drift; none before the first.
    pub latest: Option<DriftDetected>,
}

impl Detectors {
    /// Creates detectors of a task with this standing, whose earlier labels are not tested.
    pub(crate) fn new(standing: &Standing) -> Self {
        Detectors {
            seen: standing.total.score,
            labelled: standing.total.labelled,
            ..Detectors::default()
        }
    }

    /// Resumes with the state that an earlier run stored. Labels up to the score `seen` that it did
    /// not test are skipped.
    #[must_use]
    pub fn resume(self, seen: Score) -> Self {
        Detectors { seen, ..self }
    }

    /// Tests the losses since the last call, given a task's standing after an epoch. Returns
    /// whether there were any, and the drift that they show.
    pub(crate) fn look(
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
        // If both find one, ADWIN's rise counts: its window shows better when the drift began.
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

    /// Tests the strangeness of an epoch's samples, and returns the drift that it shows.
    pub(crate) fn look_at_features(
        &mut self,
        task: TaskId,
        strangeness: &Strangeness,
        delta: f64,
    ) -> Option<DriftDetected> {
        // Strangeness is from 0 to 1, as losses of classes are.
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
