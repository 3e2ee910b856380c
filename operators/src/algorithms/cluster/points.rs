//! Samples as points of standardized features.

use ndarray::ArrayView2;
use serde::{Deserialize, Serialize};

/// A feature that clusters are made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClusterFeature {
    /// Its name.
    pub name: String,
    /// The mean of its values when the clusters were made.
    pub mean: f64,
    /// Their standard deviation; 0 where all values were the same, which tell nothing apart.
    pub scale: f64,
}

/// How values become standardized ones.
pub(crate) struct Scaling {
    /// Mean and inverse of the standard deviation; none where a feature tells nothing apart.
    pub(crate) features: Vec<Option<(f64, f64)>>,
}

impl Scaling {
    pub(crate) fn new(features: &[ClusterFeature]) -> Self {
        let scaling = |feature: &ClusterFeature| {
            let inverse = feature.scale.recip();
            inverse.is_normal().then_some((feature.mean, inverse))
        };
        Scaling {
            features: features.iter().map(scaling).collect(),
        }
    }

    /// The standardized value of a feature; none if it is missing or tells nothing.
    #[inline]
    pub(crate) fn value(&self, feature: usize, value: f32) -> Option<f64> {
        let (mean, inverse) = self.features[feature]?;
        value
            .is_finite()
            .then(|| (f64::from(value) - mean) * inverse)
    }
}

/// Points row by row; NaN is missing. Every point has a value.
pub(super) struct Points {
    dimensions: usize,
    values: Vec<f64>,
}

impl Points {
    /// The rows of batches that have one of the features at least.
    pub(super) fn standardized(
        scaling: &Scaling,
        columns: &[usize],
        batches: &[ArrayView2<'_, f32>],
    ) -> Self {
        let dimensions = columns.len();
        let mut values = Vec::new();
        for row in batches.iter().flat_map(|batch| batch.rows()) {
            let before = values.len();
            values.extend(columns.iter().enumerate().map(|(feature, column)| {
                let value = scaling.value(feature, row[*column]);
                value.unwrap_or(f64::NAN)
            }));
            if values[before..].iter().all(|value| value.is_nan()) {
                values.truncate(before);
            }
        }
        Points { dimensions, values }
    }

    /// Some of the points.
    pub(super) fn select(&self, rows: &[usize]) -> Self {
        let values = rows.iter().flat_map(|row| self.row(*row));
        Points {
            dimensions: self.dimensions,
            values: values.copied().collect(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.values.len() / self.dimensions.max(1)
    }

    pub(super) fn dimensions(&self) -> usize {
        self.dimensions
    }

    pub(super) fn row(&self, row: usize) -> &[f64] {
        &self.values[row * self.dimensions..][..self.dimensions]
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = &[f64]> {
        self.values.chunks_exact(self.dimensions.max(1))
    }
}

/// The squared distance over the features that both have, and how many those are.
pub(super) fn squared_distance(a: &[f64], b: &[f64]) -> (f64, usize) {
    let (mut sum, mut known) = (0.0, 0);
    for (a, b) in a.iter().zip(b) {
        let squared = (a - b) * (a - b);
        if !squared.is_nan() {
            sum += squared;
            known += 1;
        }
    }
    (sum, known)
}
