//! Versions and figures of models, as the tables show them.

use perennial_operators::LabelKind;

pub(crate) fn version(version: Option<u32>) -> String {
    version.map_or("–".to_string(), |version| format!("v{version}"))
}

/// What the two figures of a model are called: how often or how far it was off, and its mean loss in nats.
pub(crate) fn model_figures(kind: LabelKind) -> [&'static str; 2] {
    match kind {
        LabelKind::Classes(_) => ["accuracy", "log loss"],
        LabelKind::Number => ["RMSE", "loss"],
    }
}
