//! When labels become known.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeMap;

use common::{Row, header, scored};
use perennial_operators::join::{Delay, Joined, Joiner};
use perennial_operators::{EpochHeader, Phase, TaskId};
use proptest::prelude::*;

/// An epoch of the whole stream: the rows of this worker, those of others before and after, and the
/// seconds by which the clock goes on.
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
            std::cmp::Ordering::Greater => Phase::Scored,
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

fn released(joined: &Joined) -> Vec<Released> {
    let mut all = Vec::new();
    for part in &joined.labelled.parts {
        let allocated = &part.scored.allocated;
        for (row, label) in part.rows.iter().zip(&part.labels) {
            let row = *row as usize;
            let group = &allocated.groups[allocated.group_of[row] as usize];
            let order = &allocated.order[group.start..group.end];
            assert!(order.contains(&(row as u32)));
            let predicted = part.scored.is_predicted();
            all.push((
                allocated.batch.sequence(row),
                allocated.batch.times[row],
                *label,
                allocated.batch.features.row(row).to_vec(),
                group.path.leaf().task,
                predicted.then(|| part.scored.probabilities[[row, 1]]),
            ));
        }
    }
    all
}

fn is_due(delay: Delay, header: &EpochHeader, sequence: u64, time: i64) -> bool {
    match (header.phase, delay) {
        (Phase::Scored, Delay::Records(records)) => header.end > sequence + records,
        (Phase::Scored, Delay::Time(delay)) => header.clock >= time + delay,
        _ => true,
    }
}

fn delays() -> impl Strategy<Value = Delay> {
    prop_oneof![
        (0..60_u64).prop_map(Delay::Records),
        (0..70_i64).prop_map(Delay::Time)
    ]
}

/// Runs a joiner, restoring it before epoch `restart` from what it gave out.
fn joins(delay: Delay, epochs: &Epochs, restart: Option<usize>) -> Vec<Joined> {
    let mut joiner = Joiner::restore(delay, &[], None).unwrap();
    let mut pending: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    let mut all: Vec<Joined> = Vec::new();
    for (at, (header, first, rows)) in epochs.iter().enumerate() {
        if restart == Some(at) {
            let waiting: Vec<Vec<u8>> = pending.values().cloned().collect();
            let committed = at.checked_sub(1).map(|before| epochs[before].0);
            joiner = Joiner::restore(delay, &waiting, committed.as_ref()).unwrap();
        }
        let joined = joiner.join(scored(*header, *first, rows)).unwrap();
        // As the knowledge base does it.
        pending.extend(joined.pending.clone());
        pending.retain(|last, _| *last >= joined.floor);
        all.push(joined);
    }
    all
}

proptest! {
    #[test]
    fn each_row_is_released_once_when_it_is_first_due(
        parts in parts(),
        bootstrap in 0..4_usize,
        ends: bool,
        delay in delays(),
    ) {
        let epochs = epochs(&parts, bootstrap, ends);
        let joins = joins(delay, &epochs, None);
        let mut waiting: BTreeMap<u64, (Row, bool)> = BTreeMap::new();
        for ((header, first, rows), joined) in epochs.iter().zip(&joins) {
            let predicted = header.phase == Phase::Scored;
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
            prop_assert_eq!(joined.labelled.header, *header);
            let waits = waiting.range(first..).next().is_some() && !rows.is_empty();
            prop_assert_eq!(joined.pending.is_some(), waits);
        }
        if ends {
            prop_assert!(waiting.is_empty());
        }
    }

    #[test]
    fn a_restart_in_the_middle_changes_no_release(
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
fn what_is_no_pending_sample_is_refused() {
    assert!(Joiner::restore(Delay::Records(1), &[vec![255; 7]], None).is_err());
}
