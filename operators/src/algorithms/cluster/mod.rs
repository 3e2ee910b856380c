//! Clusters of features: a level of the task tree that is found in the data.
//!
//! They are found once, by k-means on standardized features of the bootstrap's samples, and are facts of the
//! knowledge base from then on: a sample always belongs to the nearest centre.

mod kmeans;
mod points;
mod silhouette;

use ndarray::ArrayView2;
use serde::{Deserialize, Serialize};

use self::kmeans::{Partition, cluster, refine};
use self::points::{ClusterFeature, Points, Scaling};
use self::silhouette::silhouettes;
use crate::data::{ClusterPlan, MISSING, priority};

/// The name of a cluster's number in the names of tasks.
pub const CLUSTER: &str = "cluster";

/// Where the number of clusters is not given, the most that are tried.
pub const MOST_CHOSEN: usize = 10;

/// Clusters are sought among so many samples, and then refined on all.
const SOUGHT_AMONG: usize = 2000;

/// Why there are no clusters.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClusterError {
    /// There is nothing to tell samples apart by.
    #[error(
        "no two of the bootstrap's samples differ in {0}: no clusters can be made of that; name other features in \
         tasks.path, or take a longer bootstrap"
    )]
    Alike(String),
    /// The samples make fewer clusters than wanted.
    #[error(
        "the bootstrap's samples make {found} clusters of {features} at most, not {k}: set k in tasks.path to {found} or \
         less, or take a longer bootstrap"
    )]
    TooFew {
        /// How many there can be.
        found: usize,
        /// How many were wanted.
        k: usize,
        /// Of which features.
        features: String,
    },
}

/// A cluster: the samples that are nearer to its centre than to any other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cluster {
    /// How many of the samples that the clusters were made from it had.
    pub samples: u64,
    /// Its centre, feature by feature, in the features' own units.
    pub centre: Vec<f64>,
}

/// Clusters of features as they were found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Clusters {
    /// What they are made of.
    pub features: Vec<ClusterFeature>,
    /// The clusters; the first has the number 1.
    pub clusters: Vec<Cluster>,
    /// How well apart they are, −1 to 1, where their number was chosen by that.
    pub silhouette: Option<f64>,
}

impl Clusters {
    /// Finds clusters among the rows of some batches' features. What is found depends on the rows and their order
    /// alone, not on how they are cut into batches.
    ///
    /// # Errors
    /// The rows do not make as many clusters as wanted, or none at all.
    pub fn find(plan: &ClusterPlan, batches: &[ArrayView2<'_, f32>]) -> Result<Self, ClusterError> {
        // A batch without rows may have no columns either.
        let batches: Vec<_> = batches
            .iter()
            .filter(|batch| batch.nrows() > 0)
            .copied()
            .collect();
        let batches = batches.as_slice();
        let features = standardize(plan, batches);
        let columns: Vec<usize> = plan.features.iter().map(|(column, _)| *column).collect();
        let points = Points::standardized(&Scaling::new(&features), &columns, batches);
        let sought = points.select(&drawn(points.len()));
        let names = || {
            let names: Vec<&str> = plan.features.iter().map(|(_, name)| &**name).collect();
            names.join(", ")
        };
        let (partition, silhouette) = match plan.k {
            Some(k) => {
                let partition = cluster(&sought, k);
                if partition.k() < k {
                    return Err(ClusterError::TooFew {
                        found: partition.k(),
                        k,
                        features: names(),
                    });
                }
                (partition, None)
            }
            None => choose(&sought).ok_or_else(|| ClusterError::Alike(names()))?,
        };
        let refined = refine(&points, partition);
        Ok(Clusters {
            clusters: clusters(&features, &refined),
            features,
            silhouette,
        })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.clusters.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.clusters.is_empty()
    }

    /// What sets the tasks of a cluster apart, in the form of an attribute's value.
    pub fn value(number: u32) -> (String, String) {
        (CLUSTER.to_string(), (number + 1).to_string())
    }
}

/// Mean and standard deviation of each feature's values, those missing left out.
fn standardize(plan: &ClusterPlan, batches: &[ArrayView2<'_, f32>]) -> Vec<ClusterFeature> {
    let of_feature = |(column, name): &(usize, String)| {
        let values = || {
            let columns = batches.iter().flat_map(|batch| batch.column(*column));
            columns
                .map(|value| f64::from(*value))
                .filter(|v| v.is_finite())
        };
        let count = values().count().max(1) as f64;
        let mean = values().sum::<f64>() / count;
        let squares: f64 = values().map(|value| (value - mean).powi(2)).sum();
        ClusterFeature {
            name: name.clone(),
            mean,
            scale: (squares / count).sqrt(),
        }
    };
    plan.features.iter().map(of_feature).collect()
}

/// An even draw of rows, in their order: as many as clusters are sought among.
fn drawn(rows: usize) -> Vec<usize> {
    let mut drawn: Vec<usize> = (0..rows).collect();
    if rows > SOUGHT_AMONG {
        drawn.sort_unstable_by_key(|row| priority(*row as u64));
        drawn.truncate(SOUGHT_AMONG);
        drawn.sort_unstable();
    }
    drawn
}

/// The number of clusters whose samples are best told apart; the smallest of equals. None if there is nothing to tell
/// them apart by.
fn choose(sought: &Points) -> Option<(Partition, Option<f64>)> {
    let partitions: Vec<Partition> = (2..=MOST_CHOSEN)
        .map(|k| (k, cluster(sought, k)))
        .take_while(|(k, partition)| partition.k() == *k)
        .map(|(_, partition)| partition)
        .collect();
    let scores = silhouettes(sought, &partitions);
    let mut best: Option<(Partition, f64)> = None;
    for (partition, score) in partitions.into_iter().zip(scores) {
        if best.as_ref().is_none_or(|(_, highest)| score > *highest) {
            best = Some((partition, score));
        }
    }
    best.map(|(partition, score)| (partition, Some(score)))
}

/// The clusters in the features' own units, numbered in the order of their centres.
fn clusters(features: &[ClusterFeature], partition: &Partition) -> Vec<Cluster> {
    let mut clusters: Vec<Cluster> = (0..partition.k())
        .map(|number| Cluster {
            samples: partition.size(number),
            centre: features
                .iter()
                .zip(partition.centre(number))
                .map(|(feature, value)| feature.mean + feature.scale * value)
                .collect(),
        })
        .collect();
    clusters.sort_by(|a, b| {
        let pairs = a.centre.iter().zip(&b.centre);
        pairs.fold(std::cmp::Ordering::Equal, |order, (a, b)| {
            order.then(a.total_cmp(b))
        })
    });
    clusters
}

/// Finds the nearest centres of samples.
pub struct Nearest {
    columns: Vec<usize>,
    scaling: Scaling,
    /// Standardized centres, feature by feature: the values of all clusters side by side.
    centres: Vec<f64>,
    k: usize,
    /// Scratch: the squared distance to each centre.
    distances: Vec<f64>,
}

impl Nearest {
    /// For samples whose features are in these columns, in the order of the clusters' features.
    pub fn new(columns: Vec<usize>, clusters: &Clusters) -> Self {
        let scaling = Scaling::new(&clusters.features);
        let k = clusters.len();
        let mut centres = Vec::with_capacity(k * columns.len());
        for (feature, scale) in scaling.features.iter().enumerate() {
            centres.extend(clusters.clusters.iter().map(|cluster| {
                scale.map_or(0.0, |(mean, inverse)| {
                    (cluster.centre[feature] - mean) * inverse
                })
            }));
        }
        Nearest {
            columns,
            scaling,
            centres,
            k,
            distances: vec![0.0; k],
        }
    }

    /// Appends for each row the number of its cluster, from 0: the first of the nearest by the features that the row
    /// has; [`MISSING`] if it has none of them.
    pub fn extend(&mut self, features: ArrayView2<'_, f32>, numbers: &mut Vec<u32>) {
        numbers.reserve(features.nrows());
        for row in features.rows() {
            self.distances.fill(0.0);
            let mut known = false;
            for (feature, column) in self.columns.iter().enumerate() {
                let Some(value) = self.scaling.value(feature, row[*column]) else {
                    continue;
                };
                known = true;
                let centres = &self.centres[feature * self.k..][..self.k];
                for (distance, centre) in self.distances.iter_mut().zip(centres) {
                    *distance += (value - centre) * (value - centre);
                }
            }
            numbers.push(match known {
                true => kmeans::least(&self.distances) as u32,
                false => MISSING,
            });
        }
    }
}
