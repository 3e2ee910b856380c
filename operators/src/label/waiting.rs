//! Samples that wait for their labels, in the order in which their waits end.
//!
//! An epoch in which nothing of theirs happens costs nothing, however many wait: who looks for what
//! is due looks at the front only.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::data::Epoch;
use crate::flow::{Labelled, Predicted};

/// Rows of one batch that wait for labels.
pub(super) struct WaitingRows {
    pub(super) predicted: Rc<Predicted>,
    /// Row numbers, ascending; never empty.
    pub(super) rows: Vec<u32>,
    /// The stream's clock when they were read.
    read: i64,
    /// Earliest event time of the rows.
    earliest: i64,
}

/// Rows that wait no longer, and their batch.
pub(super) type Taken = (Rc<Predicted>, Vec<u32>);

impl WaitingRows {
    /// Rows of a batch, all read when the stream's clock was `read`.
    pub(super) fn new(predicted: Rc<Predicted>, rows: Vec<u32>, read: i64) -> Self {
        let mut waiting = WaitingRows {
            predicted,
            rows,
            read,
            earliest: i64::MAX,
        };
        waiting.find_earliest();
        waiting
    }

    fn find_earliest(&mut self) {
        let times = &self.predicted.allocated.batch.times;
        let earliest = self.rows.iter().map(|row| times[*row as usize]).min();
        self.earliest = earliest.unwrap_or(i64::MAX);
    }

    /// Whether the batch is of this epoch.
    pub(super) fn is_of(&self, epoch: Epoch) -> bool {
        self.predicted.allocated.header.epoch == epoch
    }

    fn first(&self) -> u64 {
        self.predicted.allocated.batch.first
    }

    /// Takes the rows at the front whose wait is over, by sequence number and clock when read.
    fn take_front(&mut self, is_over: impl Fn(u64, i64) -> bool) -> Vec<u32> {
        let batch = &self.predicted.allocated.batch;
        let is_over = |row: &u32| is_over(batch.sequence(*row as usize), self.read);
        let split = self.rows.partition_point(is_over);
        let rest = self.rows.split_off(split);
        std::mem::replace(&mut self.rows, rest)
    }

    /// Takes the rows with event times up to `known`.
    fn take_until(&mut self, known: i64) -> Vec<u32> {
        let times = &self.predicted.allocated.batch.times;
        let (taken, rest) = std::mem::take(&mut self.rows)
            .into_iter()
            .partition(|row| times[*row as usize] <= known);
        self.rows = rest;
        self.find_earliest();
        taken
    }

    /// Takes the rows that have a label at the beginning of `labels`, and moves `labels` on behind
    /// this batch. Labels without a waiting sample are passed over: it waits on another worker.
    fn label(&mut self, labels: &mut &[(u64, f32)]) -> (Vec<u32>, Vec<f32>) {
        let batch = &self.predicted.allocated.batch;
        let end = batch.first + batch.len() as u64;
        let to = labels.partition_point(|(sequence, _)| *sequence < end);
        let mut labels_of_batch = labels[..to]
            .iter()
            .map(|(sequence, label)| ((sequence - batch.first) as u32, *label))
            .peekable();
        *labels = &labels[to..];
        let mut known = (Vec::new(), Vec::new());
        self.rows.retain(|row| {
            while labels_of_batch.next_if(|(other, _)| other < row).is_some() {}
            match labels_of_batch.next_if(|(other, _)| other == row) {
                Some((row, label)) => {
                    known.0.push(row);
                    known.1.push(label);
                    false
                }
                None => true,
            }
        });
        known
    }
}

/// Waiting samples of one worker.
#[derive(Default)]
pub(super) struct WaitingQueue {
    /// Batches with waiting rows, by the sequence number of the batch's first row.
    batches: BTreeMap<u64, WaitingRows>,
    /// Earliest event time and key of each batch, if waits end by event times.
    by_time: Option<BTreeSet<(i64, u64)>>,
}

impl WaitingQueue {
    /// An empty queue; `by_time` if waits end by event times.
    pub(super) fn new(by_time: bool) -> Self {
        WaitingQueue {
            batches: BTreeMap::new(),
            by_time: by_time.then(BTreeSet::new),
        }
    }

    /// Adds rows of a batch, which may be none. Batches come in any order.
    pub(super) fn push(&mut self, waiting: WaitingRows) {
        if waiting.rows.is_empty() {
            return;
        }
        let first = waiting.first();
        if let Some(by_time) = &mut self.by_time {
            by_time.insert((waiting.earliest, first));
        }
        self.batches.insert(first, waiting);
    }

    /// Sequence number of the oldest waiting sample.
    pub(super) fn floor(&self) -> Option<u64> {
        let (_, oldest) = self.batches.first_key_value()?;
        let row = *oldest.rows.first()?;
        Some(oldest.predicted.allocated.batch.sequence(row as usize))
    }

    /// The newest batch that waits.
    pub(super) fn newest(&self) -> Option<&WaitingRows> {
        self.batches.last_key_value().map(|(_, newest)| newest)
    }

    /// Whether the sample with this sequence number waits.
    pub(super) fn holds(&self, sequence: u64) -> bool {
        let batch = self.batches.range(..=sequence).next_back();
        batch.is_some_and(|(first, waiting)| {
            let row = u32::try_from(sequence - first);
            row.is_ok_and(|row| waiting.rows.binary_search(&row).is_ok())
        })
    }

    /// Takes the oldest samples as long as their wait is over, by sequence number and clock when
    /// read. Those of the epoch `spared` stay.
    pub(super) fn take_front(
        &mut self,
        spared: Option<Epoch>,
        is_over: impl Fn(u64, i64) -> bool,
    ) -> Vec<Taken> {
        let mut all = Vec::new();
        while let Some(mut oldest) = self.batches.first_entry() {
            let waiting = oldest.get_mut();
            if spared.is_some_and(|spared| waiting.is_of(spared)) {
                break;
            }
            let before = (waiting.earliest, waiting.first());
            let taken = waiting.take_front(&is_over);
            if taken.is_empty() {
                break;
            }
            all.push((waiting.predicted.clone(), taken));
            let is_empty = waiting.rows.is_empty();
            if let Some(by_time) = &mut self.by_time {
                by_time.remove(&before);
                if !is_empty {
                    waiting.find_earliest();
                    by_time.insert((waiting.earliest, before.1));
                }
            }
            if !is_empty {
                break;
            }
            oldest.remove();
        }
        all
    }

    /// Takes the samples with event times up to `known`, oldest first. Those of the epoch `spared`
    /// stay.
    pub(super) fn take_until(&mut self, spared: Option<Epoch>, known: i64) -> Vec<Taken> {
        let Some(by_time) = &mut self.by_time else {
            return Vec::new();
        };
        let mut keys = Vec::new();
        while let Some((earliest, key)) = by_time.first().copied()
            && earliest <= known
        {
            by_time.pop_first();
            keys.push(key);
        }
        keys.sort_unstable();
        let mut all = Vec::new();
        for key in keys {
            let Some(mut waiting) = self.batches.remove(&key) else {
                continue;
            };
            if spared.is_none_or(|spared| !waiting.is_of(spared)) {
                all.push((waiting.predicted.clone(), waiting.take_until(known)));
            }
            self.push(waiting);
        }
        all
    }

    /// Takes the samples that have one of these labels, ascending by sequence number.
    pub(super) fn take_labelled(&mut self, mut labels: &[(u64, f32)]) -> Vec<Labelled> {
        let mut all = Vec::new();
        while let Some((sequence, _)) = labels.first() {
            let batch = self.batches.range_mut(..=*sequence).next_back();
            let batch = batch.filter(|(first, waiting)| {
                sequence - **first < waiting.predicted.allocated.batch.len() as u64
            });
            let Some((first, waiting)) = batch else {
                labels = &labels[1..];
                continue;
            };
            let first = *first;
            let (rows, labels) = waiting.label(&mut labels);
            if rows.is_empty() {
                continue;
            }
            all.push(Labelled {
                predicted: waiting.predicted.clone(),
                rows,
                labels,
            });
            if waiting.rows.is_empty() {
                self.batches.remove(&first);
            }
        }
        all
    }
}
