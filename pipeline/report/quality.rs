//! How well predictions did, in the figures that fit the label.

use perennial_operators::{LabelKind, Score, TaskDifference};
use serde::Serialize;

/// How predictions did; no figure is there before the first label.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Quality {
    /// Of a label with classes.
    Classes {
        /// Share of right predictions.
        accuracy: Option<f64>,
        /// Mean log loss, nats.
        log_loss: Option<f64>,
    },
    /// Of a label that is a number.
    Number {
        /// Root of the mean squared error.
        rmse: Option<f64>,
        /// Mean error without its sign.
        mae: Option<f64>,
        /// Share of the labels' variance that is explained.
        r2: Option<f64>,
    },
}

impl Quality {
    /// How the predictions of a score did, which is one of a task's statistics.
    pub fn new(kind: LabelKind, statistics: &TaskDifference, score: &Score) -> Self {
        match kind {
            LabelKind::Classes(_) => Quality::Classes {
                accuracy: score.accuracy(),
                log_loss: score.log_loss(),
            },
            LabelKind::Number => Quality::Number {
                rmse: score.rmse(),
                mae: score.mae(),
                r2: statistics.r2(score),
            },
        }
    }

    /// The figures' names for people, the main one first.
    pub fn names(&self) -> &'static [&'static str] {
        match self {
            Quality::Classes { .. } => &["accuracy", "log loss"],
            Quality::Number { .. } => &["RMSE", "MAE", "R²"],
        }
    }

    /// The figures, in the order of their names.
    pub fn figures(&self) -> Vec<Option<f64>> {
        match *self {
            Quality::Classes { accuracy, log_loss } => vec![accuracy, log_loss],
            Quality::Number { rmse, mae, r2 } => vec![rmse, mae, r2],
        }
    }
}
