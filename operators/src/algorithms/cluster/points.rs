//! Samples as points of standardized features.

use ndarray::ArrayView2;
use serde::{Deserialize, Serialize};

use crate::algorithms::usual::UsualRange;

/// A feature of the clusters, and how it is standardized.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClusterFeature {
    /// Name of the feature.
    pub name: String,
    /// Mean of its values when the clusters were found, in its unit.
    pub mean: f64,
    /// Standard deviation of these values; 0 if they were all the same.
    pub scale: f64,
}

/// Standardization of features.
pub(crate) struct Scaling {
    /// Mean and inverse standard deviation of each feature; none if the feature does not vary.
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

    /// Standardized value of a feature; none if it is missing or the feature does not vary.
    #[inline]
    pub(crate) fn value(&self, feature: usize, value: f32) -> Option<f64> {
        let (mean, inverse) = self.features[feature]?;
        value
            .is_finite()
            .then(|| (f64::from(value) - mean) * inverse)
    }
}

/// Points, row by row; NaN = missing. Every point has a known value.
pub(super) struct Points {
    dimensions: usize,
    values: Vec<f64>,
}

impl Points {
    /// Standardizes the rows of some batches that have at least one of the features. A value that
    /// is not usual counts as missing: as a point of its own it would be a cluster.
    pub(super) fn standardized(
        scaling: &Scaling,
        columns: &[usize],
        usual: &[UsualRange],
        batches: &[ArrayView2<'_, f32>],
    ) -> Self {
        let dimensions = columns.len();
        let mut values = Vec::new();
        for row in batches.iter().flat_map(|batch| batch.rows()) {
            let start = values.len();
            values.extend(columns.iter().enumerate().map(|(feature, column)| {
                let value = Some(row[*column]).filter(|value| usual[feature].contains(*value));
                let value = value.and_then(|value| scaling.value(feature, value));
                value.unwrap_or(f64::NAN)
            }));
            if values[start..].iter().all(|value| value.is_nan()) {
                values.truncate(start);
            }
        }
        Points { dimensions, values }
    }

    /// Copies some of the points.
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

/// Squared distance over the features that both points have, and the number of these features.
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
