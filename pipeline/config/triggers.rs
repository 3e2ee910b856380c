//! Sections `triggers` and `gate`: when training starts and what is deployed.

use perennial_operators::LabelKind;
use perennial_operators::learn::{Schedule, TriggerRules};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::condition::{daily_window, duration, trigger};
use super::{ConfigError, ConfigFile};

pub(crate) fn rules(loaded: &ConfigFile, kind: LabelKind) -> Result<TriggerRules, ConfigError> {
    let config = &loaded.config;
    let mut triggers = Vec::new();
    for (number, text) in config.triggers.when.iter().enumerate() {
        let path = format!("triggers.when[{number}]");
        triggers.push(trigger(text, kind).map_err(|message| loaded.error(&path, message))?);
    }
    let period = match &config.triggers.check_every {
        None => 0,
        Some(text) => {
            let seconds =
                duration(text).map_err(|message| loaded.error("triggers.check_every", message))?;
            (seconds * 1e6) as i64
        }
    };
    let between = match &config.triggers.between {
        None => None,
        Some(text) => {
            Some(daily_window(text).map_err(|message| loaded.error("triggers.between", message))?)
        }
    };
    Ok(TriggerRules {
        triggers,
        schedule: Schedule { period, between },
        min_samples: config.training.min_samples as i64,
        min_new_samples: config.training.min_new_samples as i64,
        // Half a window is enough to tell a trend, and keeps a young task from being judged by its
        // first few labels.
        min_window: config.triggers.window.div_ceil(2) as i64,
    })
}

/// What a new model must not do.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GateConfig {
    /// No model is deployed that raises the mean loss of a task for which it answers by more than this, in nats.
    pub margin: f64,
}

impl Default for GateConfig {
    fn default() -> Self {
        GateConfig { margin: 0.05 }
    }
}

/// When models are trained.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TriggersConfig {
    /// Conditions `metric operator threshold`; a task trains when one of them holds for it. Metrics:
    /// `new_samples`, `model_age` (with a unit: `12h`), `drift` (alone); for classes `accuracy`, `accuracy_drop`, `log_loss`; for a
    /// number `mae`, `rmse`, `rmse_rise`.
    pub when: Vec<String>,
    /// Scored labels of a task that its windowed metrics look at: the latest ones, rounded up to
    /// whole epochs.
    pub window: u64,
    /// Time of the stream's clock between two looks, such as `30s`, `15m`, `1h`, `1d`. Default: look
    /// at every epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check_every: Option<String>,
    /// Daily time window in which triggers are looked at, UTC, such as `02:00-20:00`.
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
