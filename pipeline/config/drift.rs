//! How drift is looked for.

use perennial_operators::LabelKind;
use perennial_operators::algorithms::drift::{DriftRules, PageHinkleyRules};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::unseen::MethodConfig;
use super::{ConfigError, ConfigFile};

/// How tasks are found whose predictions lose more than they used to. What is looked at is the share of wrong predictions,
/// or where the label is a number the size of the error. A task trains on what came since if `triggers.when` has `drift`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DriftConfig {
    /// Who looks for it; nobody if this is empty.
    pub detectors: Vec<DetectorConfig>,
    /// What ADWIN allows.
    pub adwin: AdwinConfig,
    /// What the Page-Hinkley test allows.
    pub page_hinkley: PageHinkleyConfig,
}

impl Default for DriftConfig {
    fn default() -> Self {
        DriftConfig {
            detectors: vec![DetectorConfig::Adwin],
            adwin: AdwinConfig::default(),
            page_hinkley: PageHinkleyConfig::default(),
        }
    }
}

/// Somebody who looks for drift.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DetectorConfig {
    /// A window that is cut where the means of its parts differ by more than chance.
    Adwin,
    /// A sum of how far losses are above their mean.
    PageHinkley,
    /// ADWIN over how strange samples look, labels or none. It needs `unseen.methods` to have `density`.
    Features,
}

/// What ADWIN allows.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AdwinConfig {
    /// The probability with which a cut of the window may be a mistake, between 0 and 1.
    pub delta: f64,
}

impl Default for AdwinConfig {
    fn default() -> Self {
        AdwinConfig { delta: 0.002 }
    }
}

/// What the Page-Hinkley test allows.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PageHinkleyConfig {
    /// By how much losses may be above their mean: a share of predictions, or where the label is a number, of the usual
    /// error.
    pub delta: f64,
    /// Up to which sum they may be further above it.
    pub threshold: f64,
}

impl Default for PageHinkleyConfig {
    fn default() -> Self {
        PageHinkleyConfig {
            delta: 0.005,
            threshold: 50.0,
        }
    }
}

/// The rules of drift for labels of a kind.
pub(super) fn rules(loaded: &ConfigFile, kind: LabelKind) -> Result<DriftRules, ConfigError> {
    let DriftConfig {
        detectors,
        adwin,
        page_hinkley,
    } = &loaded.config.drift;
    if !(adwin.delta > 0.0 && adwin.delta < 1.0) {
        let message = "expected a probability between 0 and 1";
        return Err(loaded.error("drift.adwin.delta", message));
    }
    let is_fine = |value: f64| value >= 0.0 && value.is_finite();
    if !is_fine(page_hinkley.delta) {
        return Err(loaded.error("drift.page_hinkley.delta", "expected a number from 0 on"));
    }
    if !is_fine(page_hinkley.threshold) {
        let message = "expected a number from 0 on";
        return Err(loaded.error("drift.page_hinkley.threshold", message));
    }
    let has = |detector| detectors.contains(&detector);
    let rules = DriftRules {
        kind,
        adwin: has(DetectorConfig::Adwin).then_some(adwin.delta),
        page_hinkley: has(DetectorConfig::PageHinkley).then_some(PageHinkleyRules {
            delta: page_hinkley.delta,
            threshold: page_hinkley.threshold,
        }),
        features: has(DetectorConfig::Features).then_some(adwin.delta),
        min_samples: loaded.config.training.min_samples as i64,
    };
    let unseen = loaded.config.unseen.as_ref();
    let has_density = unseen.is_some_and(|unseen| unseen.methods.contains(&MethodConfig::Density));
    if let (Some(at), false) = (
        detectors
            .iter()
            .position(|one| *one == DetectorConfig::Features),
        has_density,
    ) {
        let message = "how strange samples look is not known: add a section \"unseen\" with \"density\" among its methods";
        return Err(loaded.error(&format!("drift.detectors[{at}]"), message));
    }
    let when = loaded.config.triggers.when.iter();
    let asked = when.zip(0..).find(|(text, _)| text.trim() == "drift");
    match asked {
        Some((_, number)) if !rules.any() => {
            let message = "nobody looks for drift: name a detector in drift.detectors (adwin, page_hinkley, features)";
            Err(loaded.error(&format!("triggers.when[{number}]"), message))
        }
        _ => Ok(rules),
    }
}
