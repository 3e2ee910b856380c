//! Mean silhouette width: how well the clusters of a partition are separated (Rousseeuw 1987,
//! "Silhouettes: a graphical aid to the interpretation and validation of cluster analysis").

use super::kmeans::Partition;
use super::points::{Points, squared_distance};

/// Mean silhouette widths, −1 to 1, of some partitions of the same points.
pub(super) fn silhouettes(points: &Points, partitions: &[Partition]) -> Vec<f64> {
    let sizes: Vec<Vec<f64>> = partitions
        .iter()
        .map(|partition| {
            (0..partition.k())
                .map(|c| partition.size(c) as f64)
                .collect()
        })
        .collect();
    let mut totals = vec![0.0; partitions.len()];
    let mut sums: Vec<Vec<f64>> = sizes.iter().map(|sizes| vec![0.0; sizes.len()]).collect();
    for (row, point) in points.rows().enumerate() {
        sums.iter_mut().for_each(|sums| sums.fill(0.0));
        for (other, other_point) in points.rows().enumerate() {
            let distance = distance(point, other_point);
            for (sums, partition) in sums.iter_mut().zip(partitions) {
                sums[partition.assigned[other]] += distance;
            }
        }
        for (number, total) in totals.iter_mut().enumerate() {
            *total += width(
                &sums[number],
                &sizes[number],
                partitions[number].assigned[row],
            );
        }
    }
    let count = points.len().max(1) as f64;
    totals.iter().map(|total| total / count).collect()
}

/// Silhouette width of a point of the cluster `own`, given the sum of its distances to the points
/// of each cluster, and the clusters' sizes.
fn width(sums: &[f64], sizes: &[f64], own: usize) -> f64 {
    // A point that is alone in its cluster has a width of 0, by definition.
    if sizes[own] <= 1.0 {
        return 0.0;
    }
    let within = sums[own] / (sizes[own] - 1.0);
    let others = (0..sums.len()).filter(|number| *number != own && sizes[*number] > 0.0);
    let nearest = others
        .map(|number| sums[number] / sizes[number])
        .fold(f64::INFINITY, f64::min);
    let widest = within.max(nearest);
    if widest.is_finite() && widest > 0.0 {
        (nearest - within) / widest
    } else {
        0.0
    }
}

/// Distance of two points: that over the features that both have, scaled up to all features (Dixon
/// 1979, "Pattern recognition with partly missing data").
///
/// Points without a common feature get the distance of two random points, whose squared difference
/// is 2 on average in each standardized feature.
fn distance(a: &[f64], b: &[f64]) -> f64 {
    let (sum, known) = squared_distance(a, b);
    let dimensions = a.len() as f64;
    match known {
        0 => (2.0 * dimensions).sqrt(),
        known => (sum * dimensions / known as f64).sqrt(),
    }
}
