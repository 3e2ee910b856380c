//! How well clusters are apart: the mean silhouette width (Rousseeuw 1987, "Silhouettes: a graphical aid to the
//! interpretation and validation of cluster analysis").

use super::kmeans::Partition;
use super::points::{Points, squared_distance};

/// The mean silhouette widths of partitions of the same points.
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
        for (other, point_there) in points.rows().enumerate() {
            let distance = distance(point, point_there);
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

/// The silhouette width of a point of the cluster `own`, from the sums of its distances to each cluster's points.
fn width(sums: &[f64], sizes: &[f64], own: usize) -> f64 {
    // Alone in its cluster, it is neither well nor badly placed.
    if sizes[own] <= 1.0 {
        return 0.0;
    }
    let within = sums[own] / (sizes[own] - 1.0);
    let others = (0..sums.len()).filter(|number| *number != own && sizes[*number] > 0.0);
    let nearest = others
        .map(|number| sums[number] / sizes[number])
        .fold(f64::INFINITY, f64::min);
    let widest = within.max(nearest);
    match widest.is_finite() && widest > 0.0 {
        true => (nearest - within) / widest,
        false => 0.0,
    }
}

/// The distance of two points. That over the features that both have stands for that over all (Dixon 1979, "Pattern
/// recognition with partly missing data"); where they have none in common, it is that of two points at random, whose
/// squares differ by 2 on average in each standardized feature.
fn distance(a: &[f64], b: &[f64]) -> f64 {
    let (sum, known) = squared_distance(a, b);
    let dimensions = a.len() as f64;
    match known {
        0 => (2.0 * dimensions).sqrt(),
        known => (sum * dimensions / known as f64).sqrt(),
    }
}
