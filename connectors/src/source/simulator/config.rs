//! The simulator's settings and the schema that follows from them.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::{Feature, Label, NumberKind, Problem, Schema};

/// The most sites or contexts, each of which takes memory.
const MOST: u32 = 10_000_000;

/// A made-up stream of samples. Its columns are `id`, `time`, `site`, `season`, `zone`, the sensors `s0`,
/// `s1`, … and `label`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SimulatorConfig {
    /// The same seed and settings give the same stream.
    pub seed: u64,
    /// How many samples there are; endless if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub records: Option<u64>,
    /// How many sites take samples.
    pub sites: u32,
    /// How many combinations of `season` and `zone` there are. Each site is in one of them.
    pub contexts: u32,
    /// How many sensors a site has. The first six decide the label, the others are noise.
    pub features: usize,
    /// What the label is: the class with the highest score, or the one score that there is.
    pub label: SimulatedLabel,
    /// How many classes the label has, named `c0`, `c1`, …; of no account where it is a number.
    pub classes: usize,
    /// How much chance there is in the label: the standard deviation of what is added to the score of each
    /// class, or to the number, whose own is about 4.
    pub noise: f32,
    /// How the labels come to depend on the sensors in other ways as time goes on.
    pub drift: Drift,
    /// The share of sites, 0 to 1, that join late, and some of them in contexts that had no site before.
    pub late_sites: f64,
    /// The sample before which no late site joins; they then join one after the other over as many samples
    /// again. A third of `records` if left out, or 100,000 in an endless stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub late_after: Option<u64>,
    /// The time of the first sample, RFC 3339.
    pub start: String,
    /// Event time from one sample to the next, microseconds.
    pub interval_us: u64,
    /// The share of sensor values that are missing, 0 to 1.
    pub missing: f64,
}

/// What the label of a simulated sample is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SimulatedLabel {
    /// One of some classes.
    #[default]
    Classes,
    /// A number, which depends on the sensors linearly.
    Number,
}

/// How fast labels come to depend on the sensors in other ways.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Drift {
    /// Samples from one change to the next.
    pub every: u64,
    /// How far a change turns what matters, in radians. Contexts differ by up to a half. 0 is no drift.
    pub strength: f64,
    /// What changes are like.
    pub kind: DriftKind,
}

/// What changes are like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DriftKind {
    /// Sudden, and between two changes what matters slowly turns by half as much again.
    #[default]
    Mixed,
    /// From one sample to the next.
    Sudden,
    /// Over the second half of the samples until the next change begins.
    Gradual,
    /// Sudden, and every other change takes back the one before.
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

    /// How many scores a sample has: one a class, or the number.
    pub(super) fn scores(&self) -> usize {
        match self.label {
            SimulatedLabel::Classes => self.classes,
            SimulatedLabel::Number => 1,
        }
    }

    /// Everything that makes the settings unusable; `key` is their key path.
    pub fn problems(&self, key: &str) -> Vec<Problem> {
        let share = |value: f64| (0.0..=1.0).contains(&value);
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
            ("late_sites", share(self.late_sites), "must be from 0 to 1"),
            (
                "start",
                self.start_micros().is_some(),
                "must be a time as 2024-01-01T00:00:00Z",
            ),
            ("missing", share(self.missing), "must be from 0 to 1"),
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
