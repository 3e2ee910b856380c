//! Training gradient-boosted trees with XGBoost.

use perennial_operators::{
    LARGEST_FEATURE, LARGEST_NUMBER, LabelKind, TrainRequest, TrainResponse, TreeParameters,
};
use thiserror::Error;
use xgb::parameters::BoosterParameters;
use xgb::{Booster, DMatrix, XGBError};

/// Why a training gave no model.
#[derive(Debug, Error)]
pub enum BoostError {
    #[error(
        "a training needs samples and features, but was given {rows} samples of {columns} features"
    )]
    Empty { rows: usize, columns: usize },
    #[error("a training needs two classes or more, but was given {0}")]
    Classes(usize),
    #[error("{rows} samples came with {labels} labels")]
    Labels { rows: usize, labels: usize },
    #[error("{rows} samples came with {weights} weights")]
    Weights { rows: usize, weights: usize },
    #[error("the weight of sample {row} is {weight}, but weights are numbers above 0")]
    Weight { row: usize, weight: f32 },
    #[error("the label of sample {row} is {label}, which is no class number below {classes}")]
    Label {
        row: usize,
        label: f32,
        classes: usize,
    },
    #[error(
        "the label of sample {row} is {label}, but only numbers up to {LARGEST_NUMBER:e} can be trained \
         on"
    )]
    Number { row: usize, label: f32 },
    #[error(
        "feature {column} of sample {row} is {value}, but only values up to {LARGEST_FEATURE:e} can be \
         trained on; a missing value is NaN"
    )]
    Large {
        row: usize,
        column: usize,
        value: f32,
    },
    #[error("{rows} samples {of} came with margins of the shape {found:?}", of = of(*kind))]
    Margins {
        rows: usize,
        kind: LabelKind,
        found: (usize, usize),
    },
    #[error("the margin of class {class} of sample {row} is {margin}, which is no finite number")]
    Margin {
        row: usize,
        class: usize,
        margin: f32,
    },
    #[error("a training takes 1 to {max} boosting rounds, but was given {0}", max = i32::MAX)]
    Rounds(u32),
    #[error("XGBoost gave {found} values for {rows} samples {of}", of = of(*kind))]
    Answers {
        found: usize,
        rows: usize,
        kind: LabelKind,
    },
    #[error("{0}")]
    XGBoost(#[from] XGBError),
}

/// What samples are of, for people.
fn of(kind: LabelKind) -> String {
    match kind {
        LabelKind::Classes(classes) => format!("of {classes} classes"),
        LabelKind::Number => "of a number".to_owned(),
    }
}

/// Trains a booster for class probabilities or a number on the samples of `request`.
///
/// One thread, so that the same request always gives the same bytes.
pub fn train(request: &TrainRequest) -> Result<TrainResponse, BoostError> {
    validate(request)?;
    let (rows, columns) = request.features.dim();
    let features = request.features.as_standard_layout();
    // A matrix in standard layout always lends its values as one slice.
    let values = features
        .as_slice()
        .ok_or(BoostError::Empty { rows, columns })?;
    let mut samples = DMatrix::from_dense(values, rows)?;
    samples.set_labels(&request.labels)?;
    if let Some(weights) = &request.weights {
        samples.set_weights(weights)?;
    }
    if let Some(margins) = &request.margins {
        let margins: Vec<f32> = margins.iter().copied().collect();
        samples.set_base_margin(&margins)?;
    }

    let mut booster = Booster::new_with_cached_dmats(&BoosterParameters::default(), &[&samples])?;
    for (name, value) in settings(&request.parameters, request.kind) {
        booster.set_param(name, &value)?;
    }
    let rounds = request.parameters.rounds;
    let rounds = i32::try_from(rounds)
        .ok()
        .filter(|&rounds| rounds > 0)
        .ok_or(BoostError::Rounds(rounds))?;
    for round in 0..rounds {
        booster.update(&samples, round)?;
    }
    let model = booster.save_buffer(false)?;

    // The answers are those of the model as written, not of the booster that trained: what
    // others will hold the model's conversion against must not rest on anything else.
    let mut written = Booster::load_buffer(&model)?;
    written.set_param("verbosity", "0")?;
    written.set_param("nthread", "1")?;
    let answers = written.predict(&samples)?;
    let (found, kind) = (answers.len(), request.kind);
    let answers = ndarray::Array2::from_shape_vec((rows, kind.width()), answers)
        .map_err(|_| BoostError::Answers { found, rows, kind })?;
    Ok(TrainResponse::Trained { model, answers })
}

/// Refuses what XGBoost would refuse less clearly or not at all.
fn validate(request: &TrainRequest) -> Result<(), BoostError> {
    let (rows, columns) = request.features.dim();
    let kind = request.kind;
    if rows == 0 || columns == 0 {
        return Err(BoostError::Empty { rows, columns });
    }
    if let LabelKind::Classes(classes @ 0..2) = kind {
        return Err(BoostError::Classes(classes));
    }
    if request.labels.len() != rows {
        let labels = request.labels.len();
        return Err(BoostError::Labels { rows, labels });
    }
    for (row, &label) in request.labels.iter().enumerate() {
        match kind {
            LabelKind::Classes(classes) => {
                if !(label >= 0.0 && label < classes as f32 && label.fract() == 0.0) {
                    return Err(BoostError::Label {
                        row,
                        label,
                        classes,
                    });
                }
            }
            // NaN is not within.
            LabelKind::Number => {
                if !(-LARGEST_NUMBER..=LARGEST_NUMBER).contains(&label) {
                    return Err(BoostError::Number { row, label });
                }
            }
        }
    }
    if let Some(weights) = &request.weights {
        if weights.len() != rows {
            let weights = weights.len();
            return Err(BoostError::Weights { rows, weights });
        }
        let counts = |weight: f32| weight > 0.0 && weight.is_finite();
        if let Some(row) = weights.iter().position(|&weight| !counts(weight)) {
            let weight = weights[row];
            return Err(BoostError::Weight { row, weight });
        }
    }
    if let Some(margins) = &request.margins {
        let found = margins.dim();
        if found != (rows, kind.width()) {
            return Err(BoostError::Margins { rows, kind, found });
        }
        let bad = margins
            .indexed_iter()
            .find(|(_, margin)| !margin.is_finite());
        if let Some(((row, class), &margin)) = bad {
            return Err(BoostError::Margin { row, class, margin });
        }
    }
    let large = |&(_, value): &((usize, usize), &f32)| value.abs() > LARGEST_FEATURE;
    if let Some(((row, column), &value)) = request.features.indexed_iter().find(large) {
        return Err(BoostError::Large { row, column, value });
    }
    Ok(())
}

/// The settings of a training as XGBoost reads them.
fn settings(parameters: &TreeParameters, kind: LabelKind) -> Vec<(&'static str, String)> {
    let objective = match kind {
        LabelKind::Classes(classes) => vec![
            ("objective", "multi:softprob".to_owned()),
            ("num_class", classes.to_string()),
        ],
        LabelKind::Number => vec![("objective", "reg:squarederror".to_owned())],
    };
    let own = [
        ("verbosity", "0".to_owned()),
        ("nthread", "1".to_owned()),
        // The crate's defaults fix the intercept at 0.5; this has XGBoost estimate one for each
        // class, or of the number, after all, as it does by itself.
        ("boost_from_average", "1".to_owned()),
        ("tree_method", "hist".to_owned()),
        ("seed", parameters.seed.to_string()),
        ("max_depth", parameters.max_depth.to_string()),
        ("eta", parameters.eta.to_string()),
        ("min_child_weight", parameters.min_child_weight.to_string()),
        ("subsample", parameters.subsample.to_string()),
        ("colsample_bytree", parameters.colsample_bytree.to_string()),
        ("lambda", parameters.lambda.to_string()),
        ("device", "cpu".to_owned()),
    ];
    own.into_iter().chain(objective).collect()
}
