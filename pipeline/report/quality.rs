//! Quality of predictions, in figures for the kind of the label.

use perennial_operators::{LabelKind, Score, TaskDifference};
use serde::Serialize;

/// Quality of predictions. All figures are none before the first label.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Quality {
    /// Where the label has classes.
    Classes {
        /// Share of right predictions.
        accuracy: Option<f64>,
        /// Mean log loss in nats.
        log_loss: Option<f64>,
    },
    /// Where the label is a number.
    Number {
        /// Root of the mean squared error, in the label's unit.
        rmse: Option<f64>,
        /// Mean absolute error, in the label's unit.
        mae: Option<f64>,
        /// Share of the labels' variance that predictions explain (R²).
        r2: Option<f64>,
    },
}

impl Quality {
    /// Quality of the predictions of `score`, which is part of a task's `statistics`.
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

    /// Names of the figures in tables, the main one first.
    pub fn names(&self) -> &'static [&'static str] {
        match self {
            Quality::Classes { .. } => &["accuracy", "log loss"],
            Quality::Number { .. } => &["RMSE", "MAE", "R²"],
        }
    }

    /// The figures, in the order of [`Quality::names`].
    pub fn figures(&self) -> Vec<Option<f64>> {
        match *self {
            Quality::Classes { accuracy, log_loss } => vec![accuracy, log_loss],
            Quality::Number { rmse, mae, r2 } => vec![rmse, mae, r2],
        }
    }
}
