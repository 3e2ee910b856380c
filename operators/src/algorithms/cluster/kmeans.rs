//! k-means: Lloyd's algorithm from seeds by k-means++ (Arthur & Vassilvitskii 2007, "k-means++: the
//! advantages of careful seeding").
//!
//! Missing values are left out of distances and means, as in k-POD (Chi, Chi & Baraniuk 2016,
//! "k-POD: a method for k-means clustering of missing data"): the sum over the known values is
//! minimized, so that none has to be imputed.

use super::points::{Points, squared_distance};
use crate::data::priority;

/// Number of draws of seeds; the best partition is taken.
const DRAWS: u64 = 10;
/// Limit of rounds of Lloyd's algorithm, which usually converges earlier.
const ROUNDS: usize = 100;

/// Partition of points by their nearest centre.
pub(super) struct Partition {
    dimensions: usize,
    /// Centres, k × dimensions, row by row; nothing is missing.
    centres: Vec<f64>,
    /// Number of the centre of each point.
    pub(super) assigned: Vec<usize>,
    /// Squared distance of each point to its centre.
    distances: Vec<f64>,
}

impl Partition {
    /// Number of clusters.
    pub(super) fn k(&self) -> usize {
        self.centres.len() / self.dimensions.max(1)
    }

    /// Centre of a cluster.
    pub(super) fn centre(&self, number: usize) -> &[f64] {
        &self.centres[number * self.dimensions..][..self.dimensions]
    }

    /// Number of points of a cluster.
    pub(super) fn size(&self, number: usize) -> u64 {
        let own = self.assigned.iter().filter(|other| **other == number);
        own.count() as u64
    }

    /// Sum of squared distances to the centres, which k-means minimizes.
    fn inertia(&self) -> f64 {
        self.distances.iter().sum()
    }

    /// Assigns points to their nearest centres; returns whether any has moved.
    fn assign(&mut self, points: &Points) -> bool {
        let mut moved = false;
        let mut distances = vec![0.0; self.k()];
        for (row, point) in points.rows().enumerate() {
            for (number, distance) in distances.iter_mut().enumerate() {
                *distance = squared_distance(point, self.centre(number)).0;
            }
            let nearest = least(&distances);
            moved |= self.assigned[row] != nearest;
            self.assigned[row] = nearest;
            self.distances[row] = distances[nearest];
        }
        moved
    }

    /// Moves centres to the means of their points.
    fn center(&mut self, points: &Points) {
        let mut sums = vec![0.0; self.centres.len()];
        let mut counts = vec![0.0; self.centres.len()];
        for (point, number) in points.rows().zip(&self.assigned) {
            for (feature, value) in point.iter().enumerate().filter(|(_, v)| !v.is_nan()) {
                let place = number * self.dimensions + feature;
                sums[place] += value;
                counts[place] += 1.0;
            }
        }
        for (centre, (sum, count)) in self.centres.iter_mut().zip(sums.iter().zip(counts)) {
            // No point of the cluster has this feature: 0, the mean of all points, stands for it.
            *centre = if count > 0.0 { sum / count } else { 0.0 };
        }
    }

    /// Moves each centre without points to the point that is farthest from its own centre.
    fn revive(&mut self, points: &Points) {
        for number in 0..self.k() {
            if self.assigned.contains(&number) {
                continue;
            }
            let mut farthest = 0;
            for (row, distance) in self.distances.iter().enumerate() {
                if *distance > self.distances[farthest] {
                    farthest = row;
                }
            }
            self.assigned[farthest] = number;
            self.distances[farthest] = 0.0;
        }
        self.center(points);
    }
}

/// Index of the least number, the first of equals.
pub(super) fn least(numbers: &[f64]) -> usize {
    let mut least = 0;
    for (place, number) in numbers.iter().enumerate() {
        if *number < numbers[least] {
            least = place;
        }
    }
    least
}

/// Finds the best partition into `k` clusters; into fewer if fewer points differ.
pub(super) fn cluster(points: &Points, k: usize) -> Partition {
    let mut best = lloyd(points, seeds(points, k, 0));
    for draw in 1..DRAWS {
        let other = lloyd(points, seeds(points, k, draw));
        if (other.k(), -other.inertia()) > (best.k(), -best.inertia()) {
            best = other;
        }
    }
    best
}

/// Runs Lloyd's algorithm on `points` from the centres of a partition of some of them.
pub(super) fn refine(points: &Points, partition: Partition) -> Partition {
    lloyd(points, partition.centres)
}

/// Draws seeds, each with a probability in proportion to its squared distance to earlier seeds.
fn seeds(points: &Points, k: usize, draw: u64) -> Vec<f64> {
    let mut centres: Vec<f64> = Vec::new();
    let mut distances = vec![1.0; points.len()];
    for number in 0..k {
        let total: f64 = distances.iter().sum();
        if total <= 0.0 {
            break;
        }
        let chance = priority(draw << 32 | number as u64) as f64 / (u64::MAX as f64);
        let seed = pick(&distances, chance * total);
        let point = points.row(seed).iter();
        centres.extend(point.map(|value| if value.is_nan() { 0.0 } else { *value }));
        let seed = &centres[number * points.dimensions()..];
        for (distance, point) in distances.iter_mut().zip(points.rows()) {
            let to_seed = squared_distance(point, seed).0;
            *distance = if number == 0 {
                to_seed
            } else {
                distance.min(to_seed)
            };
        }
    }
    centres
}

/// Index at which the sum of the weights exceeds `mark`; never one with a weight of 0.
fn pick(weights: &[f64], mark: f64) -> usize {
    let (mut sum, mut picked) = (0.0, 0);
    for (place, weight) in weights.iter().enumerate() {
        if *weight > 0.0 {
            picked = place;
            sum += weight;
            if sum > mark {
                break;
            }
        }
    }
    picked
}

/// Lloyd's algorithm: assigns points and moves centres in turn.
fn lloyd(points: &Points, centres: Vec<f64>) -> Partition {
    let mut partition = Partition {
        dimensions: points.dimensions(),
        centres,
        assigned: vec![usize::MAX; points.len()],
        distances: vec![0.0; points.len()],
    };
    if partition.k() == 0 {
        return partition;
    }
    for _ in 0..ROUNDS {
        if !partition.assign(points) {
            return partition;
        }
        partition.revive(points);
    }
    partition.assign(points);
    partition
}
