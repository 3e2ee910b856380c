//! How samples of unseen tasks are recognized.

use perennial_operators::LabelKind;
use perennial_operators::algorithms::recognize::{Method, RecognitionRules, UnseenAnswer};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ConfigError, ConfigFile};

/// How samples are recognized that are of no task that is known, and what is answered to them. Left out, none are.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UnseenConfig {
    /// What tells. All but `attributes` are scores, which tell together.
    pub methods: Vec<MethodConfig>,
    /// The share of samples of known tasks that are taken for unseen by their scores, between 0 and 1.
    pub false_alarm: f32,
    /// Labels after which a task is known. Those of a task with new attribute values are held until then.
    pub known_after: u64,
    /// Tasks with new attribute values that are kept at a time until they are known. Where there are more, those with the
    /// fewest samples make room.
    pub groups: usize,
    /// What is answered to a sample of no known task.
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

/// What tells that a sample is of no known task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MethodConfig {
    /// Its task has too few labels to be known.
    Attributes,
    /// Its features are far from the centres of known tasks.
    Density,
    /// Its features are far from those of known samples.
    Nearest,
    /// No class is probable.
    Probability,
    /// The classes' probabilities have a high entropy.
    Entropy,
    /// The models, adapters and neighbours that are asked disagree.
    Disagreement,
}

/// What is answered to a sample of no known task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AnswerConfig {
    /// What the nearest tasks of its path that are known say.
    #[default]
    Nearest,
    /// What the base model says alone.
    Base,
    /// Nothing: the prediction is empty, and whoever reads it is to decide.
    Defer,
}

/// The rules of recognition for labels of a kind, if there are to be any.
pub(super) fn rules(
    loaded: &ConfigFile,
    kind: LabelKind,
) -> Result<Option<RecognitionRules>, ConfigError> {
    let Some(unseen) = &loaded.config.unseen else {
        return Ok(None);
    };
    if !(unseen.false_alarm > 0.0 && unseen.false_alarm < 1.0) {
        let message = "expected a share between 0 and 1";
        return Err(loaded.error("unseen.false_alarm", message));
    }
    if unseen.methods.is_empty() {
        let message = "expected at least one of attributes, density, nearest, probability, entropy, disagreement";
        return Err(loaded.error("unseen.methods", message));
    }
    if unseen.groups == 0 {
        return Err(loaded.error("unseen.groups", "expected at least 1"));
    }
    let mut methods = Vec::new();
    for (number, method) in unseen.methods.iter().enumerate() {
        let Some(method) = of(*method) else {
            continue;
        };
        let needs_classes = matches!(method, Method::Probability | Method::Entropy);
        if needs_classes && kind == LabelKind::Number {
            let message = "a number has no probabilities: remove this";
            return Err(loaded.error(&format!("unseen.methods[{number}]"), message));
        }
        if !methods.contains(&method) {
            methods.push(method);
        }
    }
    Ok(Some(RecognitionRules {
        attributes: unseen.methods.contains(&MethodConfig::Attributes),
        methods,
        false_alarm: unseen.false_alarm,
        known_after: unseen.known_after as i64,
        groups: unseen.groups,
        answer: match unseen.answer {
            AnswerConfig::Nearest => UnseenAnswer::Nearest,
            AnswerConfig::Base => UnseenAnswer::Base,
            AnswerConfig::Defer => UnseenAnswer::Defer,
        },
    }))
}

/// The method that scores, if it is one.
fn of(method: MethodConfig) -> Option<Method> {
    match method {
        MethodConfig::Attributes => None,
        MethodConfig::Density => Some(Method::Density),
        MethodConfig::Nearest => Some(Method::Nearest),
        MethodConfig::Probability => Some(Method::Probability),
        MethodConfig::Entropy => Some(Method::Entropy),
        MethodConfig::Disagreement => Some(Method::Disagreement),
    }
}
