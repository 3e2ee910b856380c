//! The join of labels with their samples.

use std::collections::BTreeMap;

use perennial_operators::TaskId;
use perennial_operators::flow::{EpochHeader, Phase};
use perennial_operators::label::{Delay, JoinOutput, Joiner, LabelTiming, RestoredRows};
use proptest::prelude::*;

use crate::support::{Row, header, scored};

/// An epoch of the whole stream: the rows of this worker, the number of other workers' rows before
/// and after, and the seconds by which the clock advances.
#[derive(Clone, Debug)]
struct Part {
    before: u64,
    rows: Vec<Row>,
    after: u64,
    step: i64,
}

fn parts() -> impl Strategy<Value = Vec<Part>> {
    let label = prop_oneof![4 => 0..2_u8, 1 => Just(9_u8)];
    let row =
        (0..3_u32, -30..1_i64, label, 0.01..0.99_f32).prop_map(|(code, time, label, p)| Row {
            time,
            attributes: vec![code],
            features: vec![p, f32::from(label)],
            label: if label == 9 {
                f32::NAN
            } else {
                f32::from(label)
            },
        });
    let part = (
        0..4_u64,
        prop::collection::vec(row, 0..8),
        0..4_u64,
        0..20_i64,
    )
        .prop_map(|(before, rows, after, step)| Part {
            before,
            rows,
            after,
            step,
        });
    prop::collection::vec(part, 1..20)
}

/// The stream's epochs: header, sequence number of the first row, rows with their event times.
type Epochs = Vec<(EpochHeader, u64, Vec<Row>)>;

fn epochs(parts: &[Part], bootstrap: usize, ends: bool) -> Epochs {
    let (mut end, mut clock) = (0, 0);
    let mut epochs: Epochs = Vec::new();
    for (epoch, part) in parts.iter().enumerate() {
        let first = end + part.before;
        end = first + part.rows.len() as u64 + part.after;
        clock += part.step;
        let mut rows = part.rows.clone();
        rows.iter_mut().for_each(|row| row.time += clock);
        let phase = match (epoch + 1).cmp(&bootstrap) {
            std::cmp::Ordering::Less => Phase::Bootstrap,
            std::cmp::Ordering::Equal => Phase::BootstrapEnds,
            std::cmp::Ordering::Greater => Phase::Live,
        };
        epochs.push((
            EpochHeader {
                phase,
                ..header(epoch as u64, end, clock)
            },
            first,
            rows,
        ));
    }
    if ends {
        let last = header(parts.len() as u64, end, clock);
        epochs.push((
            EpochHeader {
                phase: Phase::Ended,
                ..last
            },
            end,
            Vec::new(),
        ));
    }
    epochs
}

/// A released row: sequence number, time, label, features, finest task, probability of class 1.
type Released = (u64, i64, f32, Vec<f32>, TaskId, Option<f32>);

fn released(joined: &JoinOutput) -> Vec<Released> {
    let mut all = Vec::new();
    for part in &joined.labelled.batches {
        let allocated = &part.predicted.allocated;
        for (row, label) in part.rows.iter().zip(&part.labels) {
            let row = *row as usize;
            let group = &allocated.groups[allocated.group_of[row] as usize];
            let order = &allocated.order[group.start..group.end];
            assert!(order.contains(&(row as u32)));
            let predicted = part.predicted.is_predicted();
            all.push((
                allocated.batch.sequence(row),
                allocated.batch.times[row],
                *label,
                allocated.batch.features.row(row).to_vec(),
                group.path.leaf().task,
                predicted.then(|| part.predicted.probabilities[[row, 1]]),
            ));
        }
    }
    all
}

fn is_due(delay: Delay, header: &EpochHeader, sequence: u64, time: i64) -> bool {
    match (header.phase, delay) {
        (Phase::Live, Delay::Records(records)) => header.end > sequence + records,
        (Phase::Live, Delay::Time(delay)) => header.clock >= time + delay,
        _ => true,
    }
}

fn delays() -> impl Strategy<Value = Delay> {
    prop_oneof![
        (0..60_u64).prop_map(Delay::Records),
        (0..70_i64).prop_map(Delay::Time)
    ]
}

/// Runs a joiner that is restored before epoch `restart` from its own output.
fn joins(delay: Delay, epochs: &Epochs, restart: Option<usize>) -> Vec<JoinOutput> {
    let arrival = LabelTiming::InSample(delay);
    let mut joiner = Joiner::restore(arrival, RestoredRows::default()).unwrap();
    let mut pending: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    let mut all: Vec<JoinOutput> = Vec::new();
    for (at, (header, first, rows)) in epochs.iter().enumerate() {
        if restart == Some(at) {
            let waiting: Vec<Vec<u8>> = pending.values().cloned().collect();
            let committed = at.checked_sub(1).map(|before| epochs[before].0);
            let waited = RestoredRows {
                pending: &waiting,
                committed: committed.as_ref(),
                ..RestoredRows::default()
            };
            joiner = Joiner::restore(arrival, waited).unwrap();
        }
        let joined = joiner.join(scored(*header, *first, rows)).unwrap();
        // As the knowledge base does.
        pending.extend(joined.pending.clone());
        pending.retain(|last, _| *last >= joined.floor);
        all.push(joined);
    }
    all
}

proptest! {
    #[test]
    fn rows_are_released_once_when_due(
        parts in parts(),
        bootstrap in 0..4_usize,
        ends: bool,
        delay in delays(),
    ) {
        let epochs = epochs(&parts, bootstrap, ends);
        let joins = joins(delay, &epochs, None);
        let mut waiting: BTreeMap<u64, (Row, bool)> = BTreeMap::new();
        for ((header, first, rows), joined) in epochs.iter().zip(&joins) {
            let predicted = header.phase == Phase::Live;
            for (row, sample) in rows.iter().enumerate() {
                waiting.insert(first + row as u64, (sample.clone(), predicted));
            }
            let due: Vec<u64> = waiting
                .iter()
                .filter(|(sequence, (row, _))| is_due(delay, header, **sequence, row.time))
                .map(|(sequence, _)| *sequence)
                .collect();
            let mut unlabelled = 0;
            let mut expected = Vec::new();
            for sequence in due {
                let (row, predicted) = waiting.remove(&sequence).unwrap();
                if row.label.is_nan() {
                    unlabelled += u64::from(predicted);
                } else {
                    let probability = predicted.then_some(row.features[0]);
                    expected.push((sequence, row.time, row.label, row.features, probability));
                }
            }
            let got: Vec<_> = released(joined)
                .into_iter()
                .map(|(sequence, time, label, features, _, p)| (sequence, time, label, features, p))
                .collect();
            prop_assert_eq!(got, expected);
            prop_assert_eq!(joined.unlabelled, unlabelled);
            let floor = waiting.keys().next().copied().unwrap_or(header.end);
            prop_assert_eq!(joined.floor, floor);
            let waits = waiting.range(first..).next().is_some() && !rows.is_empty();
            prop_assert_eq!(joined.pending.is_some(), waits);
        }
        if ends {
            prop_assert!(waiting.is_empty());
        }
    }

    #[test]
    fn restart_does_not_change_releases(
        parts in parts(),
        bootstrap in 0..4_usize,
        delay in delays(),
        restart in 0..20_usize,
    ) {
        let epochs = epochs(&parts, bootstrap, true);
        let undisturbed = joins(delay, &epochs, None);
        let restarted = joins(delay, &epochs, Some(restart));
        for (a, b) in undisturbed.iter().zip(&restarted) {
            prop_assert_eq!(released(a), released(b));
            prop_assert_eq!((a.floor, a.unlabelled), (b.floor, b.unlabelled));
            prop_assert_eq!(&a.pending, &b.pending);
        }
    }
}

#[test]
fn corrupt_pending_samples_are_refused() {
    let arrival = LabelTiming::InSample(Delay::Records(1));
    let waited = RestoredRows {
        pending: &[vec![255; 7]],
        ..RestoredRows::default()
    };
    assert!(Joiner::restore(arrival, waited).is_err());
}

/// Runs a joiner of separate labels: `coming` has the labelled samples of each epoch.
fn joins_apart(
    wait: Delay,
    epochs: &Epochs,
    coming: &[Vec<(u64, f32)>],
    restart: Option<usize>,
) -> Vec<JoinOutput> {
    let arrival = LabelTiming::SeparateStream(wait);
    let mut joiner = Joiner::restore(arrival, RestoredRows::default()).unwrap();
    let (mut pending, mut released) = (BTreeMap::new(), BTreeMap::new());
    let mut all: Vec<JoinOutput> = Vec::new();
    for (at, (header, first, rows)) in epochs.iter().enumerate() {
        if restart == Some(at) {
            let waited = RestoredRows {
                pending: &pending.values().cloned().collect::<Vec<_>>(),
                released: &released.values().cloned().collect::<Vec<_>>(),
                committed: at.checked_sub(1).map(|before| &epochs[before].0),
                ..RestoredRows::default()
            };
            joiner = Joiner::restore(arrival, waited).unwrap();
        }
        let bare: Vec<Row> = rows
            .iter()
            .map(|row| Row {
                label: f32::NAN,
                ..row.clone()
            })
            .collect();
        let mut scored = scored(*header, *first, &bare);
        let inside = std::rc::Rc::get_mut(&mut scored).unwrap();
        let allocated = std::rc::Rc::get_mut(&mut inside.allocated).unwrap();
        allocated.labels = std::sync::Arc::new(coming[at].clone());
        let joined = joiner.join(scored).unwrap();
        pending.extend(joined.pending.clone());
        let came = joined.released.clone();
        released.extend(came.map(|(last, bytes)| ((last, header.epoch), bytes)));
        pending.retain(|last, _| *last >= joined.floor);
        released.retain(|(last, _), _| *last >= joined.floor);
        all.push(joined);
    }
    all
}

proptest! {
    #[test]
    fn separate_labels_join_once(
        parts in parts(),
        bootstrap in 0..4_usize,
        wait in delays(),
        lags in prop::collection::vec(0..6_usize, 160),
        restart in 0..20_usize,
    ) {
        let epochs = epochs(&parts, bootstrap, true);
        // Each row's label comes some epochs later, if the stream lasts that long.
        let mut coming: Vec<Vec<(u64, f32)>> = vec![Vec::new(); epochs.len()];
        let mut samples: BTreeMap<u64, (usize, f32)> = BTreeMap::new();
        for (at, (_, first, rows)) in epochs.iter().enumerate() {
            for (row, sample) in rows.iter().enumerate() {
                let sequence = first + row as u64;
                samples.insert(sequence, (at, sample.label));
                let comes = at + lags[sequence as usize % lags.len()];
                if !sample.label.is_nan() && comes < epochs.len() {
                    coming[comes].push((sequence, sample.label));
                }
            }
        }
        coming.iter_mut().for_each(|labels| labels.sort_by_key(|(sequence, _)| *sequence));
        let joins = joins_apart(wait, &epochs, &coming, None);
        for ((at, (header, _, _)), joined) in epochs.iter().enumerate().zip(&joins) {
            let expected: Vec<(u64, f32)> = coming[at]
                .iter()
                .copied()
                .filter(|(sequence, _)| samples.remove(sequence).is_some())
                .collect();
            let got: Vec<(u64, f32)> = released(joined).iter().map(|r| (r.0, r.2)).collect();
            prop_assert_eq!(got, expected);
            let given_up: Vec<u64> = samples
                .iter()
                .filter(|(sequence, (read, _))| {
                    let clock = epochs[*read].0.clock;
                    *read <= at
                        && (header.phase == Phase::Ended
                            || wait.is_over(**sequence, clock, header))
                })
                .map(|(sequence, _)| *sequence)
                .collect();
            let mut unlabelled = 0;
            for sequence in given_up {
                let (read, _) = samples.remove(&sequence).unwrap();
                unlabelled += u64::from(epochs[read].0.phase == Phase::Live);
            }
            prop_assert_eq!(joined.unlabelled, unlabelled);
        }
        let restarted = joins_apart(wait, &epochs, &coming, Some(restart));
        for (a, b) in joins.iter().zip(&restarted) {
            prop_assert_eq!(released(a), released(b));
            prop_assert_eq!((a.floor, a.unlabelled), (b.floor, b.unlabelled));
        }
    }
}

#[test]
fn a_clock_that_was_ahead_does_not_hold_samples_after_a_restart() {
    let arrival = LabelTiming::SeparateStream(Delay::Time(10));
    let row = |time| Row {
        time,
        attributes: vec![0],
        features: vec![0.5],
        label: f32::NAN,
    };
    let mut joiner = Joiner::restore(arrival, RestoredRows::default()).unwrap();
    let mut pending = Vec::new();
    for (epoch, clock) in [(0, 1_000_000), (1, 100)] {
        let scored = scored(header(epoch, epoch + 1, clock), epoch, &[row(5)]);
        pending.extend(joiner.join(scored).unwrap().pending.map(|(_, bytes)| bytes));
    }
    let waited = RestoredRows {
        pending: &pending,
        committed: Some(&header(1, 2, 100)),
        ..RestoredRows::default()
    };
    let mut joiner = Joiner::restore(arrival, waited).unwrap();
    let mut join = |epoch, clock| {
        joiner
            .join(scored(header(epoch, 2, clock), 2, &[]))
            .unwrap()
    };
    assert_eq!(join(2, 109).unlabelled, 0);
    let joined = join(3, 110);
    assert_eq!((joined.unlabelled, joined.floor), (2, 2));
}

#[test]
fn requested_labels_are_the_only_ones() {
    let arrival = LabelTiming::OnRequest(Delay::Records(2));
    let row = |label: f32| Row {
        time: 0,
        attributes: vec![0],
        features: vec![0.5],
        label,
    };
    let rows = |label: f32| -> Vec<Row> { vec![row(label); 3] };
    let epochs: Vec<(EpochHeader, u64)> = (0..4)
        .map(|epoch| (header(epoch, 3 * epoch + 3, 0), 3 * epoch))
        .collect();
    for restart in [None, Some(1), Some(2), Some(3)] {
        let mut joiner = Joiner::restore(arrival, RestoredRows::default()).unwrap();
        let mut pending: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        let mut requested: Vec<u64> = Vec::new();
        let (mut known, mut unlabelled) = (Vec::new(), 0);
        for (at, (header, first)) in epochs.iter().enumerate() {
            if restart == Some(at) {
                let waiting: Vec<Vec<u8>> = pending.values().cloned().collect();
                let waited = RestoredRows {
                    pending: &waiting,
                    committed: Some(&epochs[at - 1].0),
                    requested: &requested,
                    ..RestoredRows::default()
                };
                joiner = Joiner::restore(arrival, waited).unwrap();
            } else if let Some(sequence) = requested.last() {
                joiner.request(*sequence);
            }
            let joined = joiner.join(scored(*header, *first, &rows(1.0))).unwrap();
            pending.extend(joined.pending.clone());
            pending.retain(|last, _| *last >= joined.floor);
            known.extend(released(&joined).into_iter().map(|one| one.0));
            unlabelled += joined.unlabelled;
            // This epoch requests the label of its second sample, which counts from the next on.
            requested.push(first + 1);
        }
        // The last epoch's requests are not known yet.
        assert_eq!(known, [1, 4, 7], "{restart:?}");
        assert_eq!(unlabelled, 6, "{restart:?}");
    }
}
