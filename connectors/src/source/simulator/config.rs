//! The simulator's settings, and the schema of its samples.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::{Feature, Label, NumberKind, Problem, Schema};

/// Bound on sites and on contexts, each of which takes memory.
const MOST: u32 = 10_000_000;

/// A simulated stream of samples. Its columns are `id`, `time`, `site`, `season`, `zone`, the
/// sensors `s0`, `s1`, … and `label`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SimulatorConfig {
    /// The same seed and settings give the same stream.
    pub seed: u64,
    /// Number of samples. Default: endless.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub records: Option<u64>,
    /// Number of sites.
    pub sites: u32,
    /// Number of combinations of `season` and `zone`. Each site is in one of them.
    pub contexts: u32,
    /// Number of sensors of a site. The first six decide the label, the others are noise.
    pub features: usize,
    /// What the label is: the class with the highest score, or a score itself.
    pub label: SimulatedLabel,
    /// Number of classes, named `c0`, `c1`, …; ignored if the label is a number.
    pub classes: usize,
    /// Noise of the label: standard deviation of a random number that is added to the score of each
    /// class, or to the number, whose own standard deviation is about 4.
    pub noise: f32,
    /// How the dependence of labels on sensors changes with time.
    pub drift: Drift,
    /// The part of sites, 0 to 1, that join late, some of them in contexts without earlier sites.
    pub late_sites: f64,
    /// The sample before which no late site joins. They then join one after another over as many
    /// samples again. Default: a third of `records`, or 100,000 in an endless stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub late_after: Option<u64>,
    /// The time of the first sample, RFC 3339.
    pub start: String,
    /// Event time from one sample to the next, microseconds.
    pub interval_us: u64,
    /// The part of sensor values that are missing, 0 to 1.
    pub missing: f64,
}

/// What the label of a simulated sample is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SimulatedLabel {
    /// One of `classes` classes.
    #[default]
    Classes,
    /// A number that depends on the sensors linearly.
    Number,
}

/// Change of how labels depend on the sensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Drift {
    /// Samples from one change to the next.
    pub every: u64,
    /// The angle by which a change rotates the weights, in radians. It varies between contexts by
    /// up to a half. 0 is no drift.
    pub strength: f64,
    /// The course of changes.
    pub kind: DriftKind,
}

/// The course of changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DriftKind {
    /// Sudden, with a slow rotation by half as much again between two changes.
    #[default]
    Mixed,
    /// From one sample to the next.
    Sudden,
    /// Over the second half of the samples until the next change begins.
    Gradual,
    /// Sudden, and every second change reverts the one before.
    Recurring,
}

impl Default for Drift {
    fn default() -> Drift {
        Drift {
            every: 100_000,
            strength: 0.4,
            kind: DriftKind::Mixed,
        }
    }
}

impl Default for SimulatorConfig {
    fn default() -> SimulatorConfig {
        SimulatorConfig {
            seed: 1,
            records: None,
            sites: 60,
            contexts: 6,
            features: 17,
            label: SimulatedLabel::Classes,
            classes: 3,
            noise: 0.5,
            drift: Drift::default(),
            late_sites: 0.2,
            late_after: None,
            start: "2024-01-01T00:00:00Z".into(),
            interval_us: 1000,
            missing: 0.01,
        }
    }
}

impl SimulatorConfig {
    /// The columns of the stream.
    pub fn schema(&self) -> Schema {
        Schema {
            id: "id".into(),
            time: "time".into(),
            site: "site".into(),
            attributes: vec!["season".into(), "zone".into()],
            features: (0..self.features)
                .map(|i| Feature::Numeric(format!("s{i}")))
                .collect(),
            label: Some(self.label()),
        }
    }

    fn label(&self) -> Label {
        let (classes, kind) = match self.label {
            SimulatedLabel::Classes => (self.classes, None),
            SimulatedLabel::Number => (0, Some(NumberKind::Number)),
        };
        Label {
            column: "label".into(),
            classes: (0..classes).map(|i| format!("c{i}")).collect(),
            kind,
        }
    }

    /// Number of scores of a sample: one for each class, or one for the number.
    pub(super) fn scores(&self) -> usize {
        match self.label {
            SimulatedLabel::Classes => self.classes,
            SimulatedLabel::Number => 1,
        }
    }

    /// Every reason why the settings cannot be used; `key` is their key path.
    pub fn problems(&self, key: &str) -> Vec<Problem> {
        let is_part = |value: f64| (0.0..=1.0).contains(&value);
        let checks = [
            (
                "sites",
                (1..=MOST).contains(&self.sites),
                "must be from 1 to 10,000,000",
            ),
            (
                "contexts",
                (1..=MOST).contains(&self.contexts),
                "must be from 1 to 10,000,000",
            ),
            (
                "features",
                (1..=10_000).contains(&self.features),
                "must be from 1 to 10,000",
            ),
            (
                "classes",
                (2..=1000).contains(&self.classes),
                "must be from 2 to 1000",
            ),
            (
                "noise",
                self.noise >= 0.0 && self.noise.is_finite(),
                "must be 0 or more",
            ),
            ("drift.every", self.drift.every > 0, "must be at least 1"),
            (
                "drift.strength",
                self.drift.strength.is_finite(),
                "must be a number",
            ),
            (
                "late_sites",
                is_part(self.late_sites),
                "must be from 0 to 1",
            ),
            (
                "start",
                self.start_micros().is_some(),
                "must be a time such as 2024-01-01T00:00:00Z",
            ),
            ("missing", is_part(self.missing), "must be from 0 to 1"),
        ];
        let failed = checks.into_iter().filter(|(_, good, _)| !good);
        failed
            .map(|(name, _, message)| (format!("{key}.{name}"), message.into()))
            .collect()
    }

    /// The time of the first sample, microseconds since 1970-01-01 UTC.
    pub(super) fn start_micros(&self) -> Option<i64> {
        self.start.parse().ok().map(Timestamp::as_microsecond)
    }

    /// The sample before which no late site joins.
    pub(super) fn joining(&self) -> u64 {
        self.late_after
            .unwrap_or(self.records.map_or(100_000, |records| records / 3))
    }
}
