//! Reservoirs: which samples they keep.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use perennial_operators::algorithms::retain::{Quota, Reservoir};
use perennial_operators::flow::KnowledgeChange;
use perennial_operators::flow::{Effect, Labelled, LabelledEpoch};
use perennial_operators::learn::{MemoryRules, RestoredMemory, retain};
use perennial_operators::{
    ClassRetained, Epoch, MemoryBounded, RetainedSample, SamplesRetained, TaskId,
};
use perennial_operators::{is_held_back, priority, sequence_of};
use proptest::prelude::*;
use timely::dataflow::operators::vec::Map;

use crate::support::{Row, Script, header, run, scored};

const CLASSES: usize = 3;
const FEATURES: usize = 1;

fn sample(sequence: u64, class: usize) -> RetainedSample {
    RetainedSample {
        sequence,
        time: 5,
        label: class as f32,
        features: vec![class as f32],
        weight: 1.0,
    }
}

/// Quotas of the classes: each takes one in turn while it has more.
fn shares(has: &[usize], capacity: usize) -> Vec<usize> {
    let mut shares = vec![0; has.len()];
    let mut left = capacity.min(has.iter().sum());
    while left > 0 {
        for (share, has) in shares.iter_mut().zip(has) {
            if *share < *has && left > 0 {
                *share += 1;
                left -= 1;
            }
        }
    }
    shares
}

/// The samples that a task must keep of those it has seen, by class.
fn expected(met: &[Vec<u64>], capacity: usize) -> BTreeSet<u64> {
    let has: Vec<usize> = met.iter().map(Vec::len).collect();
    let of_class = met
        .iter()
        .zip(shares(&has, capacity))
        .flat_map(|(met, share)| {
            let mut met = met.clone();
            met.sort_by_key(|sequence| priority(*sequence));
            met.truncate(share);
            met
        });
    of_class.collect()
}

proptest! {
    #[test]
    fn priority_determines_the_sequence_number(sequence in any::<u64>()) {
        prop_assert_eq!(sequence_of(priority(sequence)), sequence);
    }

    #[test]
    fn reservoir_keeps_the_lowest_priorities_of_each_class(
        epochs in prop::collection::vec(prop::collection::btree_map(0..400_u64, 0..CLASSES, 0..30), 1..12),
        mut capacity in 1..25_usize,
        falls in prop::collection::vec(0..3_usize, 12),
        restart in 0..12_usize,
    ) {
        let mut reservoir = Reservoir::default();
        let mut kept: BTreeMap<u64, usize> = BTreeMap::new();
        let mut met = vec![Vec::new(); CLASSES];
        for (epoch, samples) in epochs.into_iter().enumerate() {
            if epoch == restart {
                let samples = kept.iter().map(|(sequence, class)| (*class, *sequence));
                reservoir = Reservoir::restore(&reservoir.standing(), samples);
            }
            capacity = capacity.saturating_sub(falls[epoch]);
            let mut seen = vec![0; CLASSES];
            let mut fresh = Vec::new();
            for (sequence, class) in samples {
                let known = met.iter().any(|met| met.contains(&sequence));
                if !known {
                    met[class].push(sequence);
                    seen[class] += 1;
                    fresh.push(sample(sequence, class));
                }
            }
            fresh.reverse();
            let turnover = reservoir.update(fresh, &seen, capacity);
            for sequence in turnover.dropped {
                prop_assert!(kept.remove(&sequence).is_some(), "dropped and not there");
            }
            for sample in turnover.samples {
                prop_assert!(kept.insert(sample.sequence, sample.label as usize).is_none());
            }
            let now: BTreeSet<u64> = kept.keys().copied().collect();
            prop_assert_eq!(reservoir.len(), now.len());
            prop_assert_eq!(now, expected(&met, capacity));
            for (class, standing) in reservoir.standing().iter().enumerate() {
                prop_assert_eq!(standing.seen, met[class].len() as u64);
            }
        }
    }

    #[test]
    fn grown_reservoir_keeps_all_below_its_limit(
        before in prop::collection::vec(0..CLASSES, 0..200),
        after in prop::collection::vec(0..CLASSES, 0..200),
        capacity in CLASSES..40,
    ) {
        let mut reservoir = Reservoir::default();
        let mut kept = BTreeSet::new();
        let mut turn = |reservoir: &mut Reservoir, first: u64, classes: &[usize], capacity| {
            let mut seen = vec![0; CLASSES];
            classes.iter().for_each(|class| seen[*class] += 1);
            let fresh = classes.iter().zip(first..).map(|(class, at)| sample(at, *class));
            let turnover = reservoir.update(fresh.collect(), &seen, capacity);
            turnover.dropped.iter().for_each(|sequence| { kept.remove(sequence); });
            kept.extend(turnover.samples.iter().map(|sample| sample.sequence));
            kept.clone()
        };
        turn(&mut reservoir, 0, &before, capacity);
        let limits: Vec<Option<u64>> = reservoir.standing().iter().map(|of| of.limit).collect();
        let kept = turn(&mut reservoir, before.len() as u64, &after, usize::MAX);
        // Exactly the samples below their class's limit are kept, whenever they came.
        let all = before.iter().chain(&after).zip(0..);
        let below = all.filter(|(class, at)| {
            limits.get(**class).is_none_or(|limit| limit.is_none_or(|limit| priority(*at) <= limit))
        });
        let expected: BTreeSet<u64> = below.map(|(_, at)| at).collect();
        prop_assert_eq!(kept, expected);
    }

    #[test]
    fn level_is_the_highest_within_the_bound(
        labels in prop::collection::vec((0..6_u64, 0..30_u64), 1..40),
        per_task in 1..60_u64,
        most in 0..150_u64,
    ) {
        let mut level = Quota::new(per_task, most);
        let mut sizes: BTreeMap<u64, u64> = BTreeMap::new();
        let mut before = per_task;
        for (task, more) in labels {
            *sizes.entry(task).or_default() += more;
            level.grow(TaskId(task), more);
            let fell = level.fall();
            let total = |level: u64| sizes.values().map(|size| *size.min(&level)).sum::<u64>();
            let highest = (0..=per_task).rev().find(|level| total(*level) <= most).unwrap();
            prop_assert_eq!(level.samples_per_task(), highest);
            prop_assert_eq!(fell, highest < before);
            before = highest;
        }
    }
}

/// A batch that enters at a worker: epoch, first sequence number, and task and class of each row.
type Labels = (u64, u64, Vec<(u32, usize)>);

/// The content of the knowledge base.
#[derive(Clone, Debug, Default, PartialEq)]
struct Known {
    bounded: Option<MemoryBounded>,
    classes: BTreeMap<TaskId, Vec<ClassRetained>>,
    samples: BTreeMap<TaskId, BTreeMap<u64, usize>>,
}

impl Known {
    fn apply(&mut self, change: &KnowledgeChange) {
        match change {
            KnowledgeChange::MemoryBounded(bounded) => self.bounded = Some(*bounded),
            KnowledgeChange::SamplesRetained(change) => {
                let SamplesRetained {
                    task,
                    samples,
                    dropped,
                    classes,
                } = change;
                let kept = self.samples.entry(*task).or_default();
                for sequence in dropped {
                    assert!(kept.remove(sequence).is_some());
                }
                kept.extend(samples.iter().map(|of| (of.sequence, of.label as usize)));
                self.classes.insert(*task, classes.clone());
            }
            other => panic!("{other:?}"),
        }
    }

    fn restored(&self, start: u64, index: u64, peers: u64) -> RestoredMemory {
        let classes = || self.classes.iter();
        let samples = |task: &TaskId| {
            let samples = self.samples[task].iter();
            samples.map(|(sequence, class)| (*class, *sequence))
        };
        let mine = classes().filter(|(task, _)| task.0 % peers == index);
        let limits = |classes: &[ClassRetained]| classes.iter().map(|of| of.limit).collect();
        let seen = |classes: &[ClassRetained]| classes.iter().map(|of| of.seen).sum();
        RestoredMemory {
            start: Epoch(start),
            bounded: self.bounded,
            reservoirs: mine
                .map(|(task, classes)| (*task, Reservoir::restore(classes, samples(task))))
                .collect(),
            limits: classes().map(|(task, of)| (*task, limits(of))).collect(),
            seen: classes().map(|(task, of)| (*task, seen(of))).collect(),
        }
    }
}

fn rules(samples_per_task: usize, samples: usize) -> MemoryRules {
    MemoryRules {
        samples_per_task,
        bytes: samples as u64 * RetainedSample::bytes(FEATURES),
        features: FEATURES,
        classes: CLASSES,
    }
}

type Changes = BTreeMap<(Epoch, Option<TaskId>), KnowledgeChange>;

/// Runs a part of a script on this content; returns the changes by epoch and task.
fn retained(
    workers: usize,
    script: &[(u64, Vec<(usize, Labels)>)],
    rules: MemoryRules,
    known: &Known,
) -> Changes {
    let known = known.clone();
    let start = script.first().map_or(0, |(epoch, _)| *epoch);
    let out = run(workers, script.to_vec(), false, move |scope, flow| {
        let restored = known.restored(start, scope.index() as u64, scope.peers() as u64);
        let labelled = flow.map(|(epoch, first, tasks)| {
            let row = |(task, class): &(u32, usize)| Row {
                time: 5,
                attributes: vec![*task],
                features: vec![*class as f32],
                label: *class as f32,
            };
            let rows: Vec<Row> = tasks.iter().map(row).collect();
            let header = header(epoch, 0, 0);
            let part = Labelled {
                predicted: scored(header, first, &rows),
                rows: (0..rows.len() as u32).collect(),
                labels: rows.iter().map(|row| row.label).collect(),
            };
            Rc::new(LabelledEpoch {
                batches: vec![part],
            })
        });
        retain(labelled, rules, restored)
    });
    let mut changes = BTreeMap::new();
    for (epoch, effect) in out {
        let Effect::Change(change) = effect else {
            panic!("{effect:?}");
        };
        let task = match &change {
            KnowledgeChange::SamplesRetained(retained) => Some(retained.task),
            _ => None,
        };
        assert!(changes.insert((epoch, task), change).is_none());
    }
    changes
}

fn scripts() -> impl Strategy<Value = Script<Labels>> {
    // Class 0 is common, class 2 is rare.
    let class = prop_oneof![10 => Just(0_usize), 3 => Just(1), 1 => Just(2)];
    let rows = prop::collection::vec((0..4_u32, class), 1..25);
    let batches = prop::collection::vec((0..3_usize, rows), 0..4);
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

/// All samples seen up to the end of an epoch, by task and class.
fn met(script: &[(u64, Vec<(usize, Labels)>)], until: Epoch) -> BTreeMap<u32, Vec<Vec<u64>>> {
    let mut met: BTreeMap<u32, Vec<Vec<u64>>> = BTreeMap::new();
    for (_, records) in script.iter().filter(|(epoch, _)| *epoch <= until.0) {
        for (_, (_, first, tasks)) in records {
            for ((task, class), sequence) in tasks.iter().zip(*first..) {
                let of_task = met
                    .entry(*task)
                    .or_insert_with(|| vec![Vec::new(); CLASSES]);
                of_task[*class].push(sequence);
            }
        }
    }
    met
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn retained_samples_do_not_depend_on_workers_or_restarts(
        script in scripts(),
        per_task in 1..16_usize,
        most in 0..40_usize,
        cut in 0..8_usize,
    ) {
        let rules = rules(per_task, most);
        let whole = retained(1, &script, rules, &Known::default());
        let spread = retained(3, &script, rules, &Known::default());
        prop_assert_eq!(&spread, &whole);
        let cut = cut.min(script.len());
        let mut parts = retained(2, &script[..cut], rules, &Known::default());
        let mut known = Known::default();
        parts.values().for_each(|change| known.apply(change));
        parts.extend(retained(3, &script[cut..], rules, &known));
        prop_assert_eq!(&parts, &whole);
        // After every epoch the kept samples equal a recount.
        let mut known = Known::default();
        for epoch in (0..script.len() as u64).map(Epoch) {
            let changes = whole.range((epoch, None)..(epoch.next(), None));
            changes.for_each(|(_, change)| known.apply(change));
            let met = met(&script, epoch);
            let size = |met: &Vec<Vec<u64>>| met.iter().map(Vec::len).sum::<usize>();
            let total = |level: usize| met.values().map(|met| size(met).min(level)).sum::<usize>();
            let level = (0..=per_task).rev().find(|level| total(*level) <= most).unwrap();
            prop_assert_eq!(known.bounded.unwrap().samples_per_task, level as u64);
            let mut kept: Vec<BTreeSet<u64>> = known
                .samples
                .values()
                .map(|samples| samples.keys().copied().collect())
                .collect();
            let mut wanted: Vec<BTreeSet<u64>> =
                met.values().map(|met| expected(met, level)).collect();
            kept.sort();
            wanted.sort();
            prop_assert_eq!(kept, wanted);
            // The weights of a class add up to its number of samples.
            let seen: u64 = known.classes.values().flatten().map(|of| of.seen).sum();
            prop_assert_eq!(seen, met.values().map(size).sum::<usize>() as u64);
        }
    }

    #[test]
    fn lower_bounds_hold_from_the_first_epoch(
        script in scripts(),
        per_task in 2..16_usize,
        lower in 1..16_usize,
        most in 0..40_usize,
    ) {
        let mut known = Known::default();
        let first = retained(2, &script, rules(per_task, 1000), &Known::default());
        first.values().for_each(|change| known.apply(change));
        let lower = lower.min(per_task);
        let then = Epoch(script.len() as u64);
        for workers in [1, 3] {
            let mut known = known.clone();
            let changes = retained(workers, &[(then.0, Vec::new())], rules(lower, most), &known);
            prop_assert!(changes.keys().all(|(epoch, _)| *epoch == then));
            changes.values().for_each(|change| known.apply(change));
            let kept: usize = known.samples.values().map(BTreeMap::len).sum();
            prop_assert!(kept <= most);
            prop_assert!(known.samples.values().all(|of| of.len() <= lower));
            let mut fresh = Known::default();
            let anew = retained(1, &script, rules(lower, most), &Known::default());
            anew.values().for_each(|change| fresh.apply(change));
            prop_assert_eq!(&known, &fresh, "as if it had never been larger");
        }
    }
}

/// The mean of a class, estimated from its kept samples, is right on average.
#[test]
fn reservoir_is_uniform_within_a_class() {
    const ROUNDS: u64 = 3000;
    const SAMPLES: u64 = 60;
    let mut kept = [0_u32; SAMPLES as usize];
    for round in 0..ROUNDS {
        let mut reservoir = Reservoir::default();
        let mut now = BTreeSet::new();
        let class = |at: u64| usize::from(at.is_multiple_of(3));
        for epoch in 0..6 {
            let of_epoch = epoch * 10..(epoch + 1) * 10;
            let fresh: Vec<RetainedSample> = of_epoch
                .map(|at| sample(round * SAMPLES + at, class(at)))
                .collect();
            let mut seen = [0, 0];
            fresh.iter().for_each(|of| seen[of.label as usize] += 1);
            let turnover = reservoir.update(fresh, &seen, 16);
            turnover.dropped.iter().for_each(|at| {
                now.remove(at);
            });
            now.extend(turnover.samples.iter().map(|of| of.sequence));
        }
        now.iter().for_each(|at| kept[(at % SAMPLES) as usize] += 1);
    }
    // Eight of each class: of the 20 of one, of the 40 of the other.
    for (at, kept) in kept.into_iter().enumerate() {
        let chance = if at.is_multiple_of(3) {
            8.0 / 20.0
        } else {
            8.0 / 40.0
        };
        let share = f64::from(kept) / ROUNDS as f64;
        let deviation = (chance * (1.0 - chance) / ROUNDS as f64).sqrt();
        assert!((share - chance).abs() < 4.5 * deviation, "{at}: {share}");
    }
}
#[test]
fn held_back_share_does_not_depend_on_priority() {
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
