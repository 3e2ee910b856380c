//! Versions and figures of models in tables.

use perennial_operators::LabelKind;

use crate::terminal::NONE;

pub(crate) fn version(version: Option<u32>) -> String {
    version.map_or(NONE.to_string(), |version| format!("v{version}"))
}

/// Names of the two figures of a model: accuracy or RMSE, and its mean loss in nats.
pub(crate) fn model_figures(kind: LabelKind) -> [&'static str; 2] {
    match kind {
        LabelKind::Classes(_) => ["accuracy", "log loss"],
        LabelKind::Number => ["RMSE", "loss"],
    }
}
