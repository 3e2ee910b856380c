//! Clusters of features: a level of the task tree that is found in the data.
//!
//! They are found once, by k-means on standardized features of the bootstrap's samples, and are
//! facts of the knowledge base from then on: a sample always belongs to the nearest centre.

mod kmeans;
mod points;
mod silhouette;

use ndarray::ArrayView2;
use serde::{Deserialize, Serialize};

use self::kmeans::{Partition, cluster, refine};
use self::points::{ClusterFeature, Points, Scaling};
use self::silhouette::silhouettes;
use crate::algorithms::usual::{Spread, UsualRange};
use crate::data::{ClusterPlan, MISSING, priority};

/// Name of the cluster's number in the names of tasks.
pub const CLUSTER: &str = "cluster";

/// Most clusters that are tried if their number is not given.
pub const MOST_CHOSEN: usize = 10;

/// Number of samples that clusters are sought among, before they are refined on all samples.
const SOUGHT_AMONG: usize = 2000;

/// Reason why there are no clusters.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClusterError {
    /// All samples are alike in these features.
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
        /// Number of clusters that there can be.
        found: usize,
        /// Number of clusters wanted.
        k: usize,
        /// Names of the features.
        features: String,
    },
}

/// A cluster: the samples that are nearer to its centre than to any other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cluster {
    /// Number of its samples among those that the clusters were found in.
    pub samples: u64,
    /// Centre, one value a feature, in the features' units.
    pub centre: Vec<f64>,
}

/// Clusters of features, as they were found.
///
/// ```
/// use ndarray::array;
/// use perennial_operators::ClusterPlan;
/// use perennial_operators::algorithms::cluster::{Clusters, Nearest};
///
/// // Two cold and dry rooms, and two hot and humid ones.
/// let rooms = array![[20.0, 25.0], [21.0, 30.0], [31.0, 80.0], [30.0, 75.0]];
/// let plan = ClusterPlan {
///     features: vec![(0, "temperature".into()), (1, "humidity".into())],
///     k: Some(2),
/// };
/// let clusters = Clusters::find(&plan, &[rooms.view()])?;
/// assert_eq!((clusters.clusters[0].samples, clusters.clusters[1].samples), (2, 2));
///
/// // New samples belong to the nearest centre, by the features that they have.
/// let samples = array![[23.0, 20.0], [f32::NAN, 70.0]];
/// let mut numbers = Vec::new();
/// Nearest::new(vec![0, 1], &clusters).extend(samples.view(), &mut numbers);
/// assert_eq!(numbers, [0, 1]);
/// # Ok::<(), perennial_operators::algorithms::cluster::ClusterError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Clusters {
    /// Features of the clusters.
    pub features: Vec<ClusterFeature>,
    /// Clusters, by their centres; the first has the number 1 in names of tasks.
    pub clusters: Vec<Cluster>,
    /// Mean silhouette width, −1 to 1, by which their number was chosen; none if it was given.
    pub silhouette: Option<f64>,
}

impl Clusters {
    /// Finds clusters in some batches of features, each samples × features.
    ///
    /// The result depends on the rows and their order alone, not on how they are cut into batches.
    ///
    /// # Errors
    /// The rows make no clusters at all, or fewer than wanted.
    pub fn find(plan: &ClusterPlan, batches: &[ArrayView2<'_, f32>]) -> Result<Self, ClusterError> {
        // A batch without rows may have no columns either.
        let batches: Vec<_> = batches
            .iter()
            .filter(|batch| batch.nrows() > 0)
            .copied()
            .collect();
        let batches = batches.as_slice();
        let (features, usual) = standardize(plan, batches);
        let columns: Vec<usize> = plan.features.iter().map(|(column, _)| *column).collect();
        let points = Points::standardized(&Scaling::new(&features), &columns, &usual, batches);
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

    /// Number of clusters.
    pub fn len(&self) -> usize {
        self.clusters.len()
    }

    /// Whether there are no clusters.
    pub fn is_empty(&self) -> bool {
        self.clusters.is_empty()
    }

    /// Name and value of a cluster, `number` from 0, in the form of an attribute's.
    pub fn value(number: u32) -> (String, String) {
        (CLUSTER.to_string(), (number + 1).to_string())
    }
}

/// Computes mean and standard deviation of each feature's usual values, and the ranges of these.
fn standardize(
    plan: &ClusterPlan,
    batches: &[ArrayView2<'_, f32>],
) -> (Vec<ClusterFeature>, Vec<UsualRange>) {
    let of_feature = |(column, name): &(usize, String)| {
        let values = || {
            let columns = batches.iter().flat_map(|batch| batch.column(*column));
            columns.map(|value| (*value, 1.0))
        };
        let spread = Spread::of(values);
        let feature = ClusterFeature {
            name: name.clone(),
            mean: spread.mean,
            scale: spread.deviation,
        };
        (feature, spread.usual)
    };
    plan.features.iter().map(of_feature).unzip()
}

/// Draws at most [`SOUGHT_AMONG`] rows evenly, in their order.
fn drawn(rows: usize) -> Vec<usize> {
    let mut drawn: Vec<usize> = (0..rows).collect();
    if rows > SOUGHT_AMONG {
        drawn.sort_unstable_by_key(|row| priority(*row as u64));
        drawn.truncate(SOUGHT_AMONG);
        drawn.sort_unstable();
    }
    drawn
}

/// Finds the partition with the greatest mean silhouette width; of equals, that with the fewest
/// clusters. None if all points are alike.
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

/// Converts a partition into clusters in the features' units, ordered by their centres.
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
    /// Standardized centres, features × k: the values of all clusters side by side.
    centres: Vec<f64>,
    k: usize,
    /// Scratch: squared distance to each centre.
    distances: Vec<f64>,
}

impl Nearest {
    /// Finder for samples that have the clusters' features, in their order, in these columns.
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

    /// Appends the number of each row's cluster, from 0, for features of the shape samples ×
    /// columns.
    ///
    /// It is the nearest one by the features that the row has, the first of equals; [`MISSING`] if
    /// the row has none of them.
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
            numbers.push(if known {
                kmeans::least(&self.distances) as u32
            } else {
                MISSING
            });
        }
    }
}
