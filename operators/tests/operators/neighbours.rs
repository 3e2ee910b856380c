//! Recent samples, and the votes of neighbours among them.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use perennial_operators::algorithms::neighbours::Neighbours;
use perennial_operators::flow::{Labelled, LabelledEpoch};
use perennial_operators::learn::{WindowEpochs, recent};
use perennial_operators::{Epoch, LabelKind, RecentMoved, RecentSamples, TaskId};
use proptest::prelude::*;
use timely::dataflow::operators::vec::Map;

use crate::support::{Row, Script, header, on_any_number_of_workers, run, scored};

const CLASSES: usize = 3;

/// A batch that enters at a worker: epoch, first sequence number, and task and feature of each row.
type Batch = (u64, u64, Vec<(u32, f32)>);
/// The stored samples, by task and epoch.
type Stored = BTreeMap<(TaskId, Epoch), Arc<RecentSamples>>;

fn labelled((epoch, first, samples): Batch) -> LabelledEpoch {
    let row = |(task, feature): &(u32, f32)| Row {
        time: 0,
        attributes: vec![task / 3, task % 3],
        features: vec![*feature, 1.0],
        label: 0.0,
    };
    let rows: Vec<Row> = samples.iter().map(row).collect();
    let part = Labelled {
        predicted: scored(header(epoch, 0, 0), first, &rows),
        rows: (0..rows.len() as u32).collect(),
        labels: samples.iter().map(|(task, _)| *task as f32).collect(),
    };
    LabelledEpoch {
        batches: vec![part],
    }
}

/// Runs a script on stored samples.
fn moved(workers: usize, script: Script<Batch>, most: usize, stored: &Stored) -> Vec<RecentMoved> {
    let stored = stored.clone();
    let moved = run(workers, script, false, move |scope, flow| {
        let (index, peers) = (scope.index() as u64, scope.peers() as u64);
        let mut held: BTreeMap<TaskId, WindowEpochs> = BTreeMap::new();
        for ((task, epoch), samples) in stored.iter() {
            if task.0 % peers == index {
                let held = held.entry(*task).or_default();
                held.push_back((*epoch, samples.labels.len()));
            }
        }
        let labelled = flow.map(|batch| Rc::new(labelled(batch)));
        recent(labelled, most, held.into_iter().collect()).map(|moved| moved)
    });
    let mut moved: Vec<_> = moved.into_iter().collect();
    moved.sort_by_key(|(epoch, moved)| (*epoch, moved.task));
    moved.into_iter().map(|(_, moved)| moved).collect()
}

fn store(stored: &mut Stored, epoch: u64, moved: &RecentMoved) {
    stored.insert((moved.task, Epoch(epoch)), moved.samples.clone());
    for left in &moved.left {
        assert!(stored.remove(&(moved.task, *left)).is_some());
    }
}

fn scripts() -> impl Strategy<Value = Script<Batch>> {
    let sample = (0..5_u32, -2.0..2.0_f32);
    let batch = (0..3_usize, prop::collection::vec(sample, 1..12));
    let epochs = prop::collection::vec(prop::collection::vec(batch, 0..3), 1..10);
    epochs.prop_map(|epochs| {
        let mut first = 0;
        let epochs = epochs.into_iter().enumerate().map(|(epoch, batches)| {
            let batches = batches.into_iter().map(|(worker, samples)| {
                first += samples.len() as u64;
                let begin = first - samples.len() as u64;
                (worker, (epoch as u64, begin, samples))
            });
            (epoch as u64, batches.collect())
        });
        epochs.collect()
    })
}

/// The features of a task's latest samples, in order, from the whole script.
fn latest(script: &Script<Batch>, task: u32, most: usize) -> Vec<f32> {
    let batches = script.iter().flat_map(|(_, batches)| batches);
    let samples = batches.flat_map(|(_, (_, _, samples))| samples);
    let own: Vec<f32> = samples
        .filter(|(of, _)| *of == task)
        .map(|(_, feature)| *feature)
        .collect();
    own[own.len().saturating_sub(most)..].to_vec()
}

fn probabilities(neighbours: &mut Neighbours, task: TaskId, features: &[f32]) -> Vec<f32> {
    let mut to = vec![0.0; CLASSES];
    let kind = LabelKind::Classes(CLASSES);
    neighbours.predict(task, features, kind, &[0.2, 0.3, 0.5], &mut to);
    to
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn latest_samples_are_kept_on_any_number_of_workers_and_over_restarts(
        script in scripts(),
        most in 1..8_usize,
        restart in 0..10_usize,
    ) {
        let whole = on_any_number_of_workers(|workers| {
            moved(workers, script.clone(), most, &Stored::new())
        });
        let mut stored = Stored::new();
        let mut live = Neighbours::new(most);
        let mut after = Vec::new();
        let (before_restart, behind) = script.split_at(restart.min(script.len()));
        for part in [before_restart, behind] {
            let mut at = stored.clone();
            for (epoch, batches) in part {
                for moved in moved(2, vec![(*epoch, batches.clone())], most, &at) {
                    store(&mut stored, *epoch, &moved);
                    live.add(&moved);
                    after.push(moved);
                }
                at = stored.clone();
            }
        }
        prop_assert_eq!(&whole, &after);
        let mut by_task: BTreeMap<u32, Vec<f32>> = BTreeMap::new();
        for samples in stored.values() {
            for (label, features) in samples.labels.iter().zip(samples.features.chunks_exact(2)) {
                by_task.entry(*label as u32).or_default().push(features[0]);
            }
        }
        for (task, features) in by_task {
            let expected = latest(&script, task, most);
            prop_assert!(features.ends_with(&expected), "{features:?} {expected:?}");
        }
        // Restored samples give the same neighbours.
        let mut restored = Neighbours::new(most);
        let parents: BTreeMap<TaskId, Option<TaskId>> =
            after.iter().map(|moved| (moved.task, moved.parent)).collect();
        let mut all: Vec<_> = stored.iter().collect();
        all.sort_by_key(|((task, epoch), _)| (*epoch, *task));
        for ((task, _), samples) in all {
            restored.add(&RecentMoved {
                task: *task,
                parent: parents[task],
                samples: samples.clone(),
                left: Vec::new(),
            });
        }
        for neighbours in [&mut live, &mut restored] {
            neighbours.set_deviations(&[1.0, 1.0]);
        }
        for task in parents.keys().chain(parents.values().flatten()) {
            for feature in [-1.0, 0.0, 0.5] {
                let of = |neighbours: &mut Neighbours| {
                    let mut said = vec![0.0; 5];
                    let kind = LabelKind::Classes(5);
                    neighbours.predict(*task, &[feature, 1.0], kind, &[0.2; 5], &mut said);
                    said
                };
                prop_assert_eq!(of(&mut live), of(&mut restored));
            }
        }
    }

    #[test]
    fn neighbour_votes_equal_a_plain_sum(
        samples in prop::collection::vec((prop::array::uniform4(-2..3_i32), 0..CLASSES), 1..60),
        asked in prop::array::uniform4(-2..3_i32),
        most in 1..40_usize,
    ) {
        // -2 stands for a missing value; the third feature never varies, the fourth varies twice as
        // much.
        let features = |values: [i32; 4]| {
            let value = |value: i32| if value == -2 { f32::NAN } else { value as f32 * 0.2 };
            let [a, b, c, d] = values.map(value);
            [a, b, if c.is_nan() { c } else { 3.0 }, d]
        };
        let deviations = [1.0, 1.0, 1.0, 2.0];
        let task = TaskId(7);
        let mut neighbours = Neighbours::new(most);
        for (values, label) in &samples {
            neighbours.add(&RecentMoved {
                task,
                parent: None,
                samples: Arc::new(RecentSamples {
                    labels: vec![*label as f32],
                    features: features(*values).to_vec(),
                    ..RecentSamples::default()
                }),
                left: Vec::new(),
            });
        }
        prop_assert!(!neighbours.knows(task), "without knowing how much features vary");
        neighbours.set_deviations(&deviations);
        prop_assert!(neighbours.knows(task));
        let asked = features(asked);
        let kept = &samples[samples.len().saturating_sub(most)..];
        let varies: Vec<bool> = (0..4)
            .map(|at| kept.iter().any(|(values, _)| (features(*values)[at] - asked[at]).abs() > 0.0))
            .collect();
        let mut sums = [0.2_f64, 0.3, 0.5];
        for (values, label) in kept {
            let (mut square, mut known) = (0.0, 0.0);
            for (at, value) in features(*values).into_iter().enumerate() {
                let apart = f64::from((value - asked[at]) / deviations[at]);
                if !value.is_nan() && varies[at] {
                    known += 1.0;
                    square += if apart.is_nan() { 0.0 } else { apart * apart };
                }
            }
            let squares = square / f64::max(known, 1.0) / 0.09;
            if squares < 14.0 {
                sums[*label] += (-0.5 * squares).exp();
            }
        }
        let total: f64 = sums.iter().sum();
        let found = probabilities(&mut neighbours, task, &asked);
        for (found, sum) in found.iter().zip(sums) {
            prop_assert!((f64::from(*found) - sum / total).abs() < 1e-4, "{found:?} {sums:?}");
        }
    }
}

#[test]
fn neighbour_numbers_are_averaged() {
    let mut neighbours = Neighbours::new(4);
    neighbours.set_deviations(&[1.0]);
    neighbours.add(&RecentMoved {
        task: TaskId(1),
        parent: None,
        samples: Arc::new(RecentSamples {
            labels: vec![5.0, 900.0],
            features: vec![1.0, 50.0],
            ..RecentSamples::default()
        }),
        left: Vec::new(),
    });
    let mut said = [0.0];
    neighbours.predict(TaskId(1), &[1.0], LabelKind::Number, &[2.0], &mut said);
    assert_eq!(said, [3.5]);
}

#[test]
fn deviations_measured_anew_hold_for_earlier_samples() {
    let add = |neighbours: &mut Neighbours| {
        neighbours.add(&RecentMoved {
            task: TaskId(1),
            parent: None,
            samples: Arc::new(RecentSamples {
                labels: vec![0.0, 1.0, 2.0],
                features: vec![1.0, 0.3, 2.0, 0.1, f32::NAN, 0.2],
                ..RecentSamples::default()
            }),
            left: Vec::new(),
        });
    };
    // The first deviation was that of a mark such as 1e12, the other feature did not vary.
    let mut renewed = Neighbours::new(8);
    renewed.set_deviations(&[1e10, 0.0]);
    add(&mut renewed);
    renewed.set_deviations(&[2.0, 0.5]);
    let mut fresh = Neighbours::new(8);
    fresh.set_deviations(&[2.0, 0.5]);
    add(&mut fresh);
    for features in [[1.0, 0.3], [2.0, 0.0], [f32::NAN, 0.1]] {
        let expected = probabilities(&mut fresh, TaskId(1), &features);
        assert_eq!(probabilities(&mut renewed, TaskId(1), &features), expected);
        assert_ne!(expected, [0.2, 0.3, 0.5]);
    }
}

#[test]
fn neighbours_without_samples_do_not_vote() {
    let mut neighbours = Neighbours::new(4);
    neighbours.set_deviations(&[1.0]);
    assert!(!neighbours.knows(TaskId(1)));
    let found = probabilities(&mut neighbours, TaskId(1), &[0.0]);
    assert_eq!(found, [0.2, 0.3, 0.5]);
}
