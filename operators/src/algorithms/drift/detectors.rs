//! The detectors of one task, and the rules that configure them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Adwin, PageHinkley, PageHinkleyRules, Strangeness};
use crate::data::{LabelKind, Rise, Score, Standing, TaskId, View};

/// See [`KnowledgeChange::DriftMoved`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DriftMoved {
    /// The task.
    pub task: TaskId,
    /// What watches it, from the next epoch on.
    pub detectors: Arc<Detectors>,
}

/// See [`KnowledgeChange::DriftDetected`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DriftDetected {
    /// The task.
    pub task: TaskId,
    /// Who tells.
    pub detector: Detector,
    /// By how much predictions lose more than they used to.
    pub rise: Rise,
    /// The task's labelled samples then.
    pub labelled: i64,
}

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

/// What is known of a task's losses, and of the last drift.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Detectors {
    /// The score of all labels that were looked at.
    pub(crate) seen: Score,
    /// All labels then.
    labelled: i64,
    adwin: Adwin,
    page_hinkley: PageHinkley,
    features: Adwin,
    /// The last drift, if there was any.
    pub latest: Option<DriftDetected>,
}

impl Detectors {
    /// Detectors of a task that has this standing and was not watched before.
    pub(crate) fn new(standing: &Standing) -> Self {
        Detectors {
            seen: standing.total.score,
            labelled: standing.total.labelled,
            ..Detectors::default()
        }
    }

    /// What was known when a run ended, for the next one: what came in between without being looked at is passed over.
    #[must_use]
    pub fn resume(self, seen: Score) -> Self {
        Detectors { seen, ..self }
    }

    /// Takes in how a task stands after an epoch. Says whether there was anything new, and the drift that it shows.
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

    /// Takes in how strange samples looked in an epoch.
    pub(crate) fn look_at_features(
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
