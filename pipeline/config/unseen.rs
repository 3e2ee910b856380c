//! Section `unseen`: how samples of unseen tasks are recognized.

use perennial_operators::LabelKind;
use perennial_operators::algorithms::recognize::{Method, RecognitionRules, UnseenAnswer};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ConfigError;
use super::places::{AT_LEAST_ONE, Places};

/// How samples of unseen tasks are recognized, and what is predicted for them. Left out, all
/// samples are of known tasks.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UnseenConfig {
    /// Tests for unseen samples. `attributes` decides by itself; all others give novelty scores,
    /// which are combined.
    pub methods: Vec<MethodConfig>,
    /// Share of samples of known tasks that are taken for unseen by their novelty scores, between 0
    /// and 1.
    pub false_alarm: f32,
    /// Number of labels after which a task is known. Samples of a task with new attribute values
    /// are held until then.
    pub known_after: u64,
    /// Maximum number of tasks with new attribute values that are tracked until they are known.
    /// When there are more, the task with the fewest samples is replaced.
    pub groups: usize,
    /// Prediction for a sample of no known task.
    pub answer: AnswerConfig,
}

impl Default for UnseenConfig {
    fn default() -> Self {
        UnseenConfig {
            methods: vec![MethodConfig::Attributes, MethodConfig::Density],
            false_alarm: 0.01,
            known_after: 5,
            groups: 256,
            answer: AnswerConfig::default(),
        }
    }
}

/// A test for samples of no known task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MethodConfig {
    /// The sample's task has too few labels to be known.
    Attributes,
    /// Its features are far from the centres of known tasks.
    Density,
    /// Its features are far from those of known samples.
    Nearest,
    /// No class is probable.
    Probability,
    /// The classes' probabilities have a high entropy.
    Entropy,
    /// The models, adapters and neighbours along its task path disagree.
    Disagreement,
}

/// Prediction for a sample of no known task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AnswerConfig {
    /// The prediction of the nearest known tasks of its path.
    #[default]
    Nearest,
    /// The prediction of the base model alone.
    Base,
    /// None: the prediction is empty, and its reader decides.
    Defer,
}

impl UnseenConfig {
    /// Whether the density test measures the strangeness of samples.
    pub(super) fn has_density(&self) -> bool {
        self.methods.contains(&MethodConfig::Density)
    }

    /// Checks the section of an edge that trains nothing.
    pub(super) fn check_untrained(&self, places: &Places) -> Result<(), ConfigError> {
        let is_trained = self.has_density() || self.methods.contains(&MethodConfig::Nearest);
        let message = "density and nearest compare with what trainings draw from samples, and \
                       nothing is trained here: set others, such as [attributes, probability], or \
                       link.train";
        places.require(!is_trained, "unseen.methods", message)
    }

    /// The rules of recognition for labels of a kind.
    pub(super) fn rules(
        &self,
        kind: LabelKind,
        places: &Places,
    ) -> Result<RecognitionRules, ConfigError> {
        let is_share = self.false_alarm > 0.0 && self.false_alarm < 1.0;
        let message = "expected a share between 0 and 1";
        places.require(is_share, "unseen.false_alarm", message)?;
        let message = "expected at least one of attributes, density, nearest, probability, entropy, \
                       disagreement";
        places.require(!self.methods.is_empty(), "unseen.methods", message)?;
        places.require(self.groups > 0, "unseen.groups", AT_LEAST_ONE)?;
        Ok(RecognitionRules {
            attributes: self.methods.contains(&MethodConfig::Attributes),
            methods: self.scores(kind, places)?,
            false_alarm: self.false_alarm,
            known_after: self.known_after as i64,
            groups: self.groups,
            answer: match self.answer {
                AnswerConfig::Nearest => UnseenAnswer::Nearest,
                AnswerConfig::Base => UnseenAnswer::Base,
                AnswerConfig::Defer => UnseenAnswer::Defer,
            },
        })
    }

    /// The methods that give novelty scores, each once.
    fn scores(&self, kind: LabelKind, places: &Places) -> Result<Vec<Method>, ConfigError> {
        let mut scores = Vec::new();
        for (number, method) in self.methods.iter().enumerate() {
            let score = match method {
                MethodConfig::Attributes => continue,
                MethodConfig::Density => Method::Density,
                MethodConfig::Nearest => Method::Nearest,
                MethodConfig::Probability => Method::Probability,
                MethodConfig::Entropy => Method::Entropy,
                MethodConfig::Disagreement => Method::Disagreement,
            };
            let needs_classes = matches!(score, Method::Probability | Method::Entropy);
            let path = format!("unseen.methods[{number}]");
            let message = "a number has no probabilities: remove this";
            places.require(!needs_classes || kind != LabelKind::Number, &path, message)?;
            if !scores.contains(&score) {
                scores.push(score);
            }
        }
        Ok(scores)
    }
}
