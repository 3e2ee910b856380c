//! What reservoirs keep.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use common::{Row, Script, header, run, scored};
use perennial_operators::flow::{Effect, Labelled, LabelledEpoch};
use perennial_operators::retain::{Reservoir, is_held_back, priority, retain};
use perennial_operators::{Epoch, KnowledgeChange, RetainedSample, TaskId};
use proptest::prelude::*;
use timely::dataflow::operators::vec::Map;

fn sample(sequence: u64) -> RetainedSample {
    RetainedSample {
        slot: 0,
        sequence,
        time: 0,
        label: 1.0,
        features: vec![sequence as f32],
    }
}

fn lowest(sequences: impl IntoIterator<Item = u64>, capacity: usize) -> BTreeSet<u64> {
    let mut all: Vec<u64> = sequences.into_iter().collect();
    all.sort_by_key(|sequence| priority(*sequence));
    all.into_iter().take(capacity).collect()
}

proptest! {
    #[test]
    fn a_reservoir_keeps_the_lowest_priorities(
        epochs in prop::collection::vec(prop::collection::btree_set(0..400_u64, 0..30), 1..12),
        capacity in 1..25_usize,
        restart in 0..12_usize,
    ) {
        let mut reservoir = Reservoir::default();
        let mut slots: BTreeMap<u32, u64> = BTreeMap::new();
        let mut met = BTreeSet::new();
        for (epoch, sequences) in epochs.into_iter().enumerate() {
            if epoch == restart {
                let samples = slots.iter().map(|(slot, sequence)| (*slot, *sequence));
                reservoir = Reservoir::restore(samples);
            }
            let fresh: Vec<u64> = sequences.into_iter().filter(|at| met.insert(*at)).collect();
            let stay = reservoir.retain(fresh.into_iter().rev().map(sample).collect(), capacity);
            let mut used = BTreeSet::new();
            for sample in stay {
                prop_assert!((sample.slot as usize) < capacity);
                prop_assert!(used.insert(sample.slot), "a slot twice in an epoch");
                slots.insert(sample.slot, sample.sequence);
            }
            let kept: BTreeSet<u64> = slots.values().copied().collect();
            prop_assert_eq!(kept.len(), slots.len());
            prop_assert_eq!(kept, lowest(met.iter().copied(), capacity));
        }
    }
}

/// A batch as it enters at a worker: epoch, first sequence number, the tasks of its rows.
type Labels = (u64, u64, Vec<u32>);

fn retained(
    workers: usize,
    script: Script<Labels>,
    capacity: usize,
    slots: BTreeMap<(TaskId, u32), u64>,
) -> Vec<(Epoch, Effect)> {
    run(workers, script, false, move |scope, flow| {
        let (index, peers) = (scope.index() as u64, scope.peers() as u64);
        let mut tasks: BTreeMap<TaskId, Vec<(u32, u64)>> = BTreeMap::new();
        for ((task, slot), sequence) in &slots {
            if task.0 % peers == index {
                tasks.entry(*task).or_default().push((*slot, *sequence));
            }
        }
        let restored = tasks
            .into_iter()
            .map(|(task, slots)| (task, Reservoir::restore(slots)));
        let labelled = flow.map(|(epoch, first, tasks)| {
            let row = |task: &u32| Row {
                time: 5,
                attributes: vec![*task],
                features: vec![f32::from(*task as u16)],
                label: 1.0,
            };
            let rows: Vec<Row> = tasks.iter().map(row).collect();
            let header = header(epoch, 0, 0);
            let part = Labelled {
                scored: scored(header, first, &rows),
                rows: (0..rows.len() as u32).collect(),
                labels: vec![1.0; rows.len()],
            };
            Rc::new(LabelledEpoch {
                header,
                parts: vec![part],
            })
        });
        retain(labelled, capacity, restored.collect())
    })
}

type Changes = BTreeMap<(Epoch, TaskId), Vec<RetainedSample>>;

fn changes(out: Vec<(Epoch, Effect)>) -> Changes {
    let mut changes = BTreeMap::new();
    for (epoch, effect) in out {
        let Effect::Change(KnowledgeChange::SamplesRetained { task, samples }) = effect else {
            panic!("{effect:?}");
        };
        assert!(changes.insert((epoch, task), samples).is_none());
    }
    changes
}

fn scripts() -> impl Strategy<Value = Script<Labels>> {
    let batches = prop::collection::vec((0..3_usize, prop::collection::vec(0..4_u32, 1..25)), 0..4);
    prop::collection::vec(batches, 1..8).prop_map(|epochs| {
        let mut first = 0;
        let mut script = Vec::new();
        for (epoch, batches) in epochs.into_iter().enumerate() {
            let mut records = Vec::new();
            for (worker, tasks) in batches {
                let rows = tasks.len() as u64;
                records.push((worker, (epoch as u64, first, tasks)));
                first += rows;
            }
            script.push((epoch as u64, records));
        }
        script
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn workers_and_restarts_do_not_change_what_is_kept(
        script in scripts(),
        capacity in 1..12_usize,
        cut in 0..8_usize,
    ) {
        let whole = changes(retained(1, script.clone(), capacity, BTreeMap::new()));
        let spread = changes(retained(3, script.clone(), capacity, BTreeMap::new()));
        prop_assert_eq!(&spread, &whole);
        let cut = cut.min(script.len());
        let mut parts = changes(retained(2, script[..cut].to_vec(), capacity, BTreeMap::new()));
        let mut slots = BTreeMap::new();
        for ((_, task), samples) in &parts {
            for sample in samples {
                slots.insert((*task, sample.slot), sample.sequence);
            }
        }
        parts.extend(changes(retained(3, script[cut..].to_vec(), capacity, slots)));
        prop_assert_eq!(&parts, &whole);
        // And what is kept is what it should be.
        let mut kept: BTreeMap<TaskId, BTreeMap<u32, u64>> = BTreeMap::new();
        for ((_, task), samples) in &whole {
            for sample in samples {
                kept.entry(*task).or_default().insert(sample.slot, sample.sequence);
            }
        }
        let mut met: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
        for (_, (_, first, tasks)) in script.iter().flat_map(|(_, records)| records) {
            for (row, task) in tasks.iter().enumerate() {
                met.entry(*task).or_default().push(first + row as u64);
            }
        }
        let mut expected: Vec<_> = met.into_values().map(|all| lowest(all, capacity)).collect();
        let mut got: Vec<BTreeSet<u64>> =
            kept.into_values().map(|slots| slots.into_values().collect()).collect();
        expected.sort();
        got.sort();
        prop_assert_eq!(got, expected);
    }
}

#[test]
fn the_share_held_back_is_right_and_does_not_depend_on_priority() {
    const SAMPLES: u64 = 200_000;
    for share in [0.05, 0.2, 0.5] {
        let held = |low: bool| {
            let half = (0..SAMPLES).filter(|at| (priority(*at) < u64::MAX / 2) == low);
            let (count, held) = half.fold((0.0, 0.0), |(count, held), at| {
                (
                    count + 1.0,
                    held + f64::from(u8::from(is_held_back(at, share))),
                )
            });
            held / count
        };
        // Five standard deviations of half of the samples.
        let tolerance = 5.0 * (share * (1.0 - share) / (SAMPLES as f64 / 2.0)).sqrt();
        assert!((held(true) - share).abs() < tolerance, "{share}");
        assert!((held(false) - share).abs() < tolerance, "{share}");
    }
    assert!(!(0..SAMPLES).any(|at| is_held_back(at, 0.0)));
    assert!((0..SAMPLES).all(|at| is_held_back(at, 1.0)));
}
