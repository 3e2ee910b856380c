//! Training gradient-boosted trees with XGBoost.

use perennial_operators::{TrainRequest, TrainResponse, TreeParameters};
use thiserror::Error;
use xgb::parameters::BoosterParameters;
use xgb::{Booster, DMatrix, XGBError};

/// The largest feature value. XGBoost puts its last threshold at about twice the greatest value of a
/// feature, and cannot write a model whose thresholds are infinite.
const LARGEST: f32 = 1e38;

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
        "feature {column} of sample {row} is {value}, but only values up to {LARGEST:e} can be \
         trained on; a missing value is NaN"
    )]
    Large {
        row: usize,
        column: usize,
        value: f32,
    },
    #[error("{rows} samples of {classes} classes came with margins of the shape {found:?}")]
    Margins {
        rows: usize,
        classes: usize,
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
    #[error("XGBoost gave {found} probabilities for {rows} samples and {classes} classes")]
    Probabilities {
        found: usize,
        rows: usize,
        classes: usize,
    },
    #[error("{0}")]
    XGBoost(#[from] XGBError),
}

/// Trains a booster for class probabilities on the samples of `request`.
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
    for (name, value) in settings(&request.parameters, request.classes) {
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

    // The probabilities are those of the model as written, not of the booster that trained: what
    // others will hold the model's conversion against must not rest on anything else.
    let mut written = Booster::load_buffer(&model)?;
    written.set_param("verbosity", "0")?;
    written.set_param("nthread", "1")?;
    let probabilities = written.predict(&samples)?;
    let found = probabilities.len();
    let probabilities = ndarray::Array2::from_shape_vec((rows, request.classes), probabilities)
        .map_err(|_| BoostError::Probabilities {
            found,
            rows,
            classes: request.classes,
        })?;
    Ok(TrainResponse::Trained {
        model,
        probabilities,
    })
}

/// Refuses what XGBoost would refuse less clearly or not at all.
fn validate(request: &TrainRequest) -> Result<(), BoostError> {
    let (rows, columns) = request.features.dim();
    let classes = request.classes;
    if rows == 0 || columns == 0 {
        return Err(BoostError::Empty { rows, columns });
    }
    if classes < 2 {
        return Err(BoostError::Classes(classes));
    }
    if request.labels.len() != rows {
        let labels = request.labels.len();
        return Err(BoostError::Labels { rows, labels });
    }
    let class = |label: f32| label >= 0.0 && label < classes as f32 && label.fract() == 0.0;
    if let Some(row) = request.labels.iter().position(|&label| !class(label)) {
        let label = request.labels[row];
        return Err(BoostError::Label {
            row,
            label,
            classes,
        });
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
        if found != (rows, classes) {
            return Err(BoostError::Margins {
                rows,
                classes,
                found,
            });
        }
        let bad = margins
            .indexed_iter()
            .find(|(_, margin)| !margin.is_finite());
        if let Some(((row, class), &margin)) = bad {
            return Err(BoostError::Margin { row, class, margin });
        }
    }
    let large = |&(_, value): &((usize, usize), &f32)| value.abs() > LARGEST;
    if let Some(((row, column), &value)) = request.features.indexed_iter().find(large) {
        return Err(BoostError::Large { row, column, value });
    }
    Ok(())
}

/// The settings of a training as XGBoost reads them.
fn settings(parameters: &TreeParameters, classes: usize) -> [(&'static str, String); 14] {
    [
        ("verbosity", "0".to_owned()),
        ("nthread", "1".to_owned()),
        ("objective", "multi:softprob".to_owned()),
        ("num_class", classes.to_string()),
        // The crate's defaults fix the intercept at 0.5; this has XGBoost estimate one for each
        // class after all, as it does by itself.
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
    ]
}
