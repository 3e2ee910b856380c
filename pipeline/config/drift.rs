//! Section `drift`: how drift is detected.

use perennial_operators::LabelKind;
use perennial_operators::algorithms::drift::{DriftRules, PageHinkleyRules};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ConfigError;
use super::places::Places;

/// How tasks are found whose predictions get worse. Detectors watch the error rate, or the absolute
/// error where the label is a number. A task trains on the samples since its drift if
/// `triggers.when` has `drift`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DriftConfig {
    /// Detectors of drift; an empty list turns drift detection off.
    pub detectors: Vec<DetectorConfig>,
    /// Settings of ADWIN.
    pub adwin: AdwinConfig,
    /// Settings of the Page-Hinkley test.
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

/// A detector of drift.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DetectorConfig {
    /// ADWIN: a window of losses that is cut where the means of its two parts differ by more than
    /// chance.
    Adwin,
    /// The Page-Hinkley test: a sum of how far losses are above their mean.
    PageHinkley,
    /// ADWIN over the strangeness of samples, with or without labels. Needs `density` in
    /// `unseen.methods`.
    Features,
}

/// Settings of ADWIN.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AdwinConfig {
    /// Probability of a false cut of the window, between 0 and 1.
    pub delta: f64,
}

impl Default for AdwinConfig {
    fn default() -> Self {
        AdwinConfig { delta: 0.002 }
    }
}

/// Settings of the Page-Hinkley test.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PageHinkleyConfig {
    /// Tolerated distance of losses above their mean: a share of predictions, or where the label is
    /// a number, a share of the usual error.
    pub delta: f64,
    /// Sum of the distances beyond `delta` at which drift is detected.
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

impl DriftConfig {
    /// The rules of the section for labels of a kind. `has_density` tells whether the strangeness
    /// of samples is measured.
    pub(super) fn rules(
        &self,
        kind: LabelKind,
        min_samples: u64,
        has_density: bool,
        places: &Places,
    ) -> Result<DriftRules, ConfigError> {
        let is_probability = self.adwin.delta > 0.0 && self.adwin.delta < 1.0;
        let message = "expected a probability between 0 and 1";
        places.require(is_probability, "drift.adwin.delta", message)?;
        let PageHinkleyConfig { delta, threshold } = self.page_hinkley;
        for (key, value) in [("delta", delta), ("threshold", threshold)] {
            let path = format!("drift.page_hinkley.{key}");
            let is_valid = value >= 0.0 && value.is_finite();
            places.require(is_valid, &path, "expected a number from 0 on")?;
        }
        let detectors = &self.detectors;
        let is_features = |detector: &DetectorConfig| *detector == DetectorConfig::Features;
        if let Some(number) = detectors.iter().position(is_features) {
            let path = format!("drift.detectors[{number}]");
            let message = "how strange samples look is not known: add a section \"unseen\" with \
                           \"density\" among its methods";
            places.require(has_density, &path, message)?;
        }
        let has = |detector| detectors.contains(&detector);
        Ok(DriftRules {
            kind,
            adwin: has(DetectorConfig::Adwin).then_some(self.adwin.delta),
            page_hinkley: has(DetectorConfig::PageHinkley)
                .then_some(PageHinkleyRules { delta, threshold }),
            features: has(DetectorConfig::Features).then_some(self.adwin.delta),
            min_samples: min_samples as i64,
        })
    }
}
