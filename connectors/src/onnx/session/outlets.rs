//! The input of a model that takes the features, and the output with the probabilities or number.

use ort::session::Session;
use ort::value::{Outlet, TensorElementType, ValueType};

use super::OnnxError;

/// Names of the input and the output of a model.
pub struct Outlets {
    /// Float `[N, features]`.
    pub input: String,
    /// Float `[N, classes]`, or `[N]` for a number.
    pub output: String,
}

impl Outlets {
    /// Finds the input and the output of a model that maps `features` features to `classes`
    /// probabilities, or to a number if `classes` is 1.
    pub fn find(session: &Session, features: usize, classes: usize) -> Result<Outlets, OnnxError> {
        let [input] = session.inputs() else {
            let found = list(session.inputs());
            return Err(OnnxError::Unfit(format!(
                "it takes {found} where one input of floats [N, {features}] is needed"
            )));
        };
        if fit(input, features, false).is_none() {
            return Err(OnnxError::Unfit(format!(
                "its input is {} where floats [N, {features}] are needed",
                describe(input)
            )));
        }
        Ok(Outlets {
            input: input.name().to_owned(),
            output: output(session.outputs(), classes)?,
        })
    }
}

/// How well the shape of an input or output is known to be `[N, columns]`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    /// Possible: the model leaves it open.
    Open,
    /// Certain.
    Sure,
}

/// The name of the output with the probabilities: the one of the right shape, or else the one that
/// may have it.
fn output(outputs: &[Outlet], classes: usize) -> Result<String, OnnxError> {
    let best = outputs
        .iter()
        .filter_map(|outlet| fit(outlet, classes, classes == 1))
        .max();
    let Some(best) = best else {
        let found = list(outputs);
        let hint = if classes > 1 && outputs.iter().any(|outlet| !outlet.dtype().is_tensor()) {
            "; export it without ZipMap, so that the probabilities are a tensor"
        } else {
            ""
        };
        return Err(OnnxError::Unfit(format!(
            "it gives {found} where an output of floats [N, {classes}] is needed{hint}"
        )));
    };
    let mut fitting = outputs
        .iter()
        .filter(|outlet| fit(outlet, classes, classes == 1) == Some(best));
    match (fitting.next(), fitting.next()) {
        (Some(outlet), None) => Ok(outlet.name().to_owned()),
        _ => Err(OnnxError::Unfit(format!(
            "more than one of its outputs may be the probabilities [N, {classes}]: {}",
            list(outputs)
        ))),
    }
}

/// How well an input or output fits floats of any number of rows and `columns` columns; none if it
/// does not. A `flat` one may lack the dimension of columns.
fn fit(outlet: &Outlet, columns: usize, flat: bool) -> Option<Fit> {
    let ValueType::Tensor {
        ty: TensorElementType::Float32,
        shape,
        ..
    } = outlet.dtype()
    else {
        return None;
    };
    // An open length is -1, and an unknown shape is empty.
    match shape[..] {
        [] | [-1, -1] => Some(Fit::Open),
        [-1] if flat => Some(Fit::Sure),
        [-1, length] if usize::try_from(length) == Ok(columns) => Some(Fit::Sure),
        _ => None,
    }
}

/// Inputs or outputs, as a message lists them.
fn list(outlets: &[Outlet]) -> String {
    match outlets {
        [] => "nothing".to_owned(),
        outlets => outlets
            .iter()
            .map(describe)
            .collect::<Vec<_>>()
            .join(" and "),
    }
}

/// An input or output, as a message names it: its name and type.
fn describe(outlet: &Outlet) -> String {
    format!("{:?} of type {}", outlet.name(), outlet.dtype())
}
