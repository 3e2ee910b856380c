//! Clusters of features: finding them, and allocating samples to them.

use std::collections::{HashMap, HashSet};

use ndarray::{Array2, s};
use perennial_operators::algorithms::cluster::{ClusterError, Clusters, Nearest};
use perennial_operators::ingest::Allocator;
use perennial_operators::{ClusterPlan, Level, MISSING, TaskDefinition, TaskLevels};
use proptest::prelude::*;

use crate::support::{Row, batch, header};

/// Pseudo-random numbers from 0 to 1 (SplitMix64).
struct Chance(u64);

impl Chance {
    fn share(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 40) as f32 / (1_u32 << 24) as f32
    }

    /// Nearly normal: the sum of twelve, minus its mean.
    fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.share()).sum::<f32>() - 6.0
    }
}

/// Centres of blobs in three features of very different units.
const CENTRES: [[f32; 3]; 4] = [
    [20.0, 0.2, 101_000.0],
    [30.0, 0.8, 101_000.0],
    [20.0, 0.8, 104_000.0],
    [30.0, 0.2, 104_000.0],
];
const SPREAD: [f32; 3] = [0.8, 0.05, 250.0];

/// Samples of blobs with some missing values, and the blob of each. Blobs differ in size.
fn blobs(seed: u64, rows: usize, missing: f32) -> (Array2<f32>, Vec<usize>) {
    let mut chance = Chance(seed);
    let truth: Vec<usize> = (0..rows)
        .map(|_| [0, 0, 0, 1, 1, 2, 2, 3][(chance.share() * 8.0) as usize])
        .collect();
    let features = Array2::from_shape_fn((rows, 3), |(row, feature)| {
        let value = CENTRES[truth[row]][feature] + SPREAD[feature] * chance.normal();
        if chance.share() < missing {
            f32::NAN
        } else {
            value
        }
    });
    (features, truth)
}

fn plan(features: usize, k: Option<usize>) -> ClusterPlan {
    ClusterPlan {
        features: (0..features)
            .map(|column| (column, format!("f{column}")))
            .collect(),
        k,
    }
}

fn find(k: Option<usize>, features: &Array2<f32>) -> Result<Clusters, ClusterError> {
    Clusters::find(&plan(features.ncols(), k), &[features.view()])
}

fn numbers(clusters: &Clusters, features: &Array2<f32>) -> Vec<u32> {
    let mut numbers = Vec::new();
    Nearest::new((0..features.ncols()).collect(), clusters).extend(features.view(), &mut numbers);
    numbers
}

/// The adjusted Rand index of two partitions (Hubert & Arabie 1985): 1 if they are the same, about
/// 0 by chance.
fn adjusted_rand(a: &[usize], b: &[u32]) -> f64 {
    let pairs = |count: f64| count * (count - 1.0) / 2.0;
    let (mut cells, mut left, mut right) = (HashMap::new(), HashMap::new(), HashMap::new());
    for (a, b) in a.iter().zip(b) {
        *cells.entry((*a, *b)).or_insert(0.0) += 1.0;
        *left.entry(*a).or_insert(0.0) += 1.0;
        *right.entry(*b).or_insert(0.0) += 1.0;
    }
    let together: f64 = cells.values().map(|count| pairs(*count)).sum();
    let left: f64 = left.values().map(|count| pairs(*count)).sum();
    let right: f64 = right.values().map(|count| pairs(*count)).sum();
    let expected = left * right / pairs(a.len() as f64);
    (together - expected) / ((left + right) / 2.0 - expected)
}

#[test]
fn clusters_are_found_with_k_given_or_chosen() {
    for seed in 1..=10 {
        for rows in [300, 6000] {
            let (features, truth) = blobs(seed, rows, 0.0);
            for k in [Some(4), None] {
                let clusters = find(k, &features).unwrap();
                assert_eq!(clusters.len(), 4, "seed {seed}, {rows} rows, {k:?}");
                assert_eq!(clusters.silhouette.is_some(), k.is_none());
                let numbers = numbers(&clusters, &features);
                let index = adjusted_rand(&truth, &numbers);
                assert!(index > 0.99, "seed {seed}, {rows} rows, {k:?}: {index}");
                for (number, cluster) in clusters.clusters.iter().enumerate() {
                    let own = numbers.iter().filter(|other| **other as usize == number);
                    assert_eq!(own.count() as u64, cluster.samples);
                }
                let firsts: Vec<f64> = clusters.clusters.iter().map(|c| c.centre[0]).collect();
                assert!(firsts.is_sorted(), "{firsts:?}");
            }
        }
    }
}

#[test]
fn cluster_count_with_the_best_silhouette_is_chosen() {
    let (features, truth) = blobs(1, 2000, 0.0);
    for (blobs, expected) in [(vec![0, 1], 2), (vec![0, 1, 3], 3)] {
        let rows: Vec<usize> = (0..truth.len())
            .filter(|row| blobs.contains(&truth[*row]))
            .collect();
        let features = features.select(ndarray::Axis(0), &rows);
        assert_eq!(find(None, &features).unwrap().len(), expected);
    }
}

#[test]
fn missing_values_neither_crash_nor_dominate() {
    for seed in 1..=5 {
        let (features, truth) = blobs(seed, 4000, 0.1);
        for k in [Some(4), None] {
            let clusters = find(k, &features).unwrap();
            assert_eq!(clusters.len(), 4, "{k:?}");
            let numbers = numbers(&clusters, &features);
            // A sample without one of the features can lie between two blobs; one with all of them
            // cannot.
            let whole: Vec<usize> = (0..4000)
                .filter(|row| features.row(*row).iter().all(|value| value.is_finite()))
                .collect();
            let (truth, whole): (Vec<usize>, Vec<u32>) =
                whole.iter().map(|row| (truth[*row], numbers[*row])).unzip();
            let index = adjusted_rand(&truth, &whole);
            assert!(index > 0.99, "seed {seed}, {k:?}: {index}");
        }
    }
    // Uninformative features, non-finite values, and samples without any value.
    let (mut features, truth) = blobs(7, 1000, 0.0);
    features.column_mut(2).fill(5.0);
    let plain = find(Some(2), &features.slice(s![.., ..2]).to_owned()).unwrap();
    for nothing in [5.0, f32::NAN, f32::INFINITY] {
        features.column_mut(2).fill(nothing);
        let clusters = find(Some(2), &features).unwrap();
        for (cluster, expected) in clusters.clusters.iter().zip(&plain.clusters) {
            assert_eq!(
                (cluster.samples, &cluster.centre[..2]),
                (expected.samples, &expected.centre[..])
            );
        }
        assert!(
            clusters
                .clusters
                .iter()
                .all(|cluster| cluster.centre[2].is_finite())
        );
    }
    features
        .row_mut(3)
        .assign(&ndarray::arr1(&[f32::NAN, f32::NEG_INFINITY, 5.0]));
    let clusters = find(Some(2), &features).unwrap();
    let numbers = numbers(&clusters, &features);
    assert_eq!(numbers[3], MISSING);
    assert_eq!(
        numbers.iter().filter(|number| **number == MISSING).count(),
        1,
        "{}",
        truth.len()
    );
    assert_eq!(
        clusters
            .clusters
            .iter()
            .map(|cluster| cluster.samples)
            .sum::<u64>(),
        999
    );
}

#[test]
fn marks_of_missing_values_neither_scale_nor_make_clusters() {
    let (clean, blob_of) = blobs(5, 900, 0.0);
    let mut marked = clean.clone();
    for (row, mark) in [(7, -9999.0), (70, 1e12), (700, 1e38)] {
        marked[[row, 0]] = mark;
    }
    let found = find(Some(4), &marked).unwrap();
    assert!(
        found.clusters.iter().all(|cluster| cluster.samples > 50),
        "{found:?}"
    );
    let score = adjusted_rand(&blob_of, &numbers(&found, &clean));
    assert!(score > 0.95, "{score}");
}

#[test]
fn clusters_do_not_depend_on_the_batches() {
    let (features, _) = blobs(3, 5000, 0.05);
    let whole = find(None, &features).unwrap();
    for cuts in [vec![2500], vec![1, 7, 4000], vec![0, 5000]] {
        let ends = cuts.iter().copied().chain([5000]);
        let mut start = 0;
        let mut batches = Vec::new();
        for end in ends {
            batches.push(features.slice(s![start..end, ..]));
            start = end;
        }
        let empty = Array2::zeros((0, 0));
        batches.push(empty.view());
        let plan = plan(3, None);
        assert_eq!(Clusters::find(&plan, &batches).unwrap(), whole, "{cuts:?}");
    }
}

#[test]
fn too_few_samples_are_refused() {
    let (features, _) = blobs(3, 5, 0.0);
    let error = find(Some(6), &features).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("make 5 clusters of f0, f1, f2 at most, not 6"),
        "{text}"
    );
    assert_eq!(find(Some(5), &features).unwrap().len(), 5);
    // Equal samples are one cluster.
    let same = Array2::from_shape_fn((500, 2), |(row, _)| (row % 3) as f32);
    assert!(
        find(Some(4), &same)
            .unwrap_err()
            .to_string()
            .contains("make 3 clusters")
    );
    assert_eq!(find(None, &same).unwrap().len(), 3);
    for features in [
        Array2::zeros((500, 2)),
        Array2::zeros((0, 0)),
        Array2::from_elem((9, 2), f32::NAN),
    ] {
        let error = Clusters::find(&plan(2, None), &[features.view()]).unwrap_err();
        assert_eq!(error, ClusterError::Alike("f0, f1".to_string()));
        assert!(Clusters::find(&plan(2, Some(2)), &[features.view()]).is_err());
    }
}

fn value() -> impl Strategy<Value = f32> {
    prop_oneof![
        6 => -100.0..100.0_f32,
        1 => Just(f32::NAN),
        1 => Just(f32::INFINITY),
        1 => Just(3.0e38),
    ]
}

proptest! {
    #[test]
    fn samples_are_allocated_to_the_nearest_centre(
        seen in prop::collection::vec(prop::array::uniform3(value()), 30..80),
        asked in prop::collection::vec(prop::array::uniform3(value()), 1..60),
        k in 2_usize..6,
    ) {
        let seen = Array2::from(seen);
        let asked = Array2::from(asked);
        let clusters = find(Some(k), &seen);
        prop_assume!(clusters.is_ok());
        let clusters = clusters.unwrap();
        prop_assert_eq!(clusters.len(), k);
        for (row, number) in asked.rows().into_iter().zip(numbers(&clusters, &asked)) {
            let known: Vec<usize> = (0..3)
                .filter(|feature| row[*feature].is_finite() && clusters.features[*feature].scale > 0.0)
                .collect();
            if known.is_empty() {
                prop_assert_eq!(number, MISSING);
                continue;
            }
            let distance = |number: usize| -> f64 {
                let squares = known.iter().map(|feature| {
                    let apart = f64::from(row[*feature]) - clusters.clusters[number].centre[*feature];
                    (apart / clusters.features[*feature].scale).powi(2)
                });
                squares.sum()
            };
            let least = (0..k).map(distance).fold(f64::INFINITY, f64::min);
            let found = distance(number as usize);
            prop_assert!(found <= least * (1.0 + 1e-9) + 1e-9, "{} is not {}", found, least);
        }
    }
}

#[test]
fn clusters_are_a_level_between_others() {
    let levels = TaskLevels {
        levels: vec![
            Level::Attributes(vec![(0, "season".into())]),
            Level::Cluster(ClusterPlan {
                features: vec![(1, "f".into())],
                k: Some(2),
            }),
            Level::Attributes(vec![(1, "site".into())]),
        ],
    };
    let row = |attributes: [u32; 2], feature: f32| Row {
        time: 0,
        attributes: attributes.to_vec(),
        features: vec![-feature, feature],
        label: 0.0,
    };
    let rows = [
        row([1, 2], 0.0),
        row([1, 2], 10.0),
        row([1, 2], f32::NAN),
        row([1, 3], 9.0),
    ];
    let batch = batch(0, &rows);
    let plan = levels.cluster().unwrap();
    let clusters = Clusters::find(plan, &[batch.features.view()]).unwrap();
    let mut allocator = Allocator::new(levels);
    allocator.set_clusters(&clusters);
    let allocated = allocator.allocate(header(1, 4, 0), batch);
    let paths: Vec<Vec<&str>> = allocated
        .groups
        .iter()
        .map(|group| group.path.nodes.iter().map(|node| &*node.name).collect())
        .collect();
    assert_eq!(
        paths,
        [
            vec![
                "base",
                "season=v1",
                "season=v1 > cluster=1",
                "season=v1 > cluster=1 > site=v2"
            ],
            vec![
                "base",
                "season=v1",
                "season=v1 > cluster=2",
                "season=v1 > cluster=2 > site=v2"
            ],
            vec!["base", "season=v1", "season=v1 > site=v2"],
            vec![
                "base",
                "season=v1",
                "season=v1 > cluster=2",
                "season=v1 > cluster=2 > site=v3"
            ],
        ]
    );
    let season = &allocated.groups[0].path.nodes[1];
    let expected: &TaskDefinition = &season.child(&[Clusters::value(1)]);
    assert_eq!(expected, &allocated.groups[1].path.nodes[2]);
    let leaves: HashSet<_> = allocated
        .groups
        .iter()
        .map(|group| group.path.leaf().task)
        .collect();
    assert_eq!(leaves.len(), 4);
}
