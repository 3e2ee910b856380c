//! Sections `triggers` and `gate`: when models are trained and which are deployed.

use perennial_operators::LabelKind;
use perennial_operators::learn::{Schedule, TriggerRules};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::condition::{daily_window, duration, trigger};
use super::places::{AT_LEAST_ONE, Places};
use super::{ConfigError, TrainingConfig};

/// When models are trained.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TriggersConfig {
    /// Conditions `metric operator threshold`; a task trains when one of them holds for it.
    /// Metrics: `new_samples`, `model_age` (with a unit: `12h`), `drift` (alone); for classes
    /// `accuracy`, `accuracy_drop`, `log_loss`; for a number `mae`, `rmse`, `rmse_rise`.
    pub when: Vec<String>,
    /// Number of a task's latest scored labels that its windowed metrics cover, rounded up to whole
    /// epochs.
    pub window: u64,
    /// Time of the stream's clock between two evaluations of the conditions, such as `30s`, `15m`,
    /// `1h`, `1d`. Default: every epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check_every: Option<String>,
    /// Daily time window, UTC, in which the conditions are evaluated, such as `02:00-20:00`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub between: Option<String>,
}

impl Default for TriggersConfig {
    fn default() -> Self {
        TriggersConfig {
            when: vec!["new_samples >= 1000".to_string()],
            window: 500,
            check_every: None,
            between: None,
        }
    }
}

impl TriggersConfig {
    pub(super) fn check(&self, places: &Places) -> Result<(), ConfigError> {
        places.require(self.window > 0, "triggers.window", AT_LEAST_ONE)
    }

    /// Checks that drift is detected if a condition is `drift`.
    pub(super) fn check_drift(
        &self,
        has_detector: bool,
        places: &Places,
    ) -> Result<(), ConfigError> {
        let message = "nobody looks for drift: name a detector in drift.detectors (adwin, \
                       page_hinkley, features)";
        match self.when.iter().position(|text| text.trim() == "drift") {
            Some(number) if !has_detector => {
                Err(places.error(&format!("triggers.when[{number}]"), message))
            }
            _ => Ok(()),
        }
    }

    /// The rules of the section for labels of a kind.
    pub(super) fn rules(
        &self,
        kind: LabelKind,
        training: &TrainingConfig,
        places: &Places,
    ) -> Result<TriggerRules, ConfigError> {
        let mut triggers = Vec::new();
        for (number, text) in self.when.iter().enumerate() {
            let path = format!("triggers.when[{number}]");
            triggers.push(trigger(text, kind).map_err(|message| places.error(&path, message))?);
        }
        let period = match &self.check_every {
            None => 0,
            Some(text) => {
                let seconds = duration(text)
                    .map_err(|message| places.error("triggers.check_every", message))?;
                (seconds * 1e6) as i64
            }
        };
        let between = self.between.as_deref().map(daily_window).transpose();
        let between = between.map_err(|message| places.error("triggers.between", message))?;
        Ok(TriggerRules {
            triggers,
            schedule: Schedule { period, between },
            min_samples: training.min_samples as i64,
            min_new_samples: training.min_new_samples as i64,
            // Half a window is enough to show a trend, and keeps a young task from being judged by
            // its first few labels.
            min_window: self.window.div_ceil(2) as i64,
        })
    }
}

/// What keeps a new model from being deployed.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GateConfig {
    /// Largest increase of the mean loss, in nats, that a new model may cause for any task that
    /// would use it.
    pub margin: f64,
}

impl Default for GateConfig {
    fn default() -> Self {
        GateConfig { margin: 0.05 }
    }
}

impl GateConfig {
    pub(super) fn check(&self, places: &Places) -> Result<(), ConfigError> {
        let is_valid = self.margin >= 0.0 && self.margin.is_finite();
        let message = "expected a number of nats from 0 on";
        places.require(is_valid, "gate.margin", message)
    }
}
