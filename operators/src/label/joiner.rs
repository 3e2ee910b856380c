//! Joining predictions with labels: a sample waits until its label is known.

use std::collections::VecDeque;
use std::rc::Rc;

use rustc_hash::FxHashSet;
use serde::{Deserialize, Serialize};

use crate::error::{Failure, OperatorError};
use crate::flow::{
    EpochHeader, Labelled, LabelledEpoch, Phase, Predicted, Stored, encode_released,
    released_sequences,
};

/// When and how the label of a sample becomes known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LabelTiming {
    /// The sample carries its label, which becomes known after the delay.
    InSample(Delay),
    /// The sample carries its label, which becomes known after the delay if it was requested.
    OnRequest(Delay),
    /// The label comes in a stream of its own and is known when it arrives. The sample waits for
    /// the delay at most.
    SeparateStream(Delay),
}

/// Time from a sample until its label becomes known, or until the sample waits no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Delay {
    /// Number of later samples to be read, over all workers.
    Records(u64),
    /// Microseconds by the stream's clock, since the event time of a sample that carries its label,
    /// else since the sample was read.
    Time(i64),
}

impl Delay {
    /// Whether the delay is over at the end of an epoch, for the sample with number `sequence` that
    /// came when the stream's clock was `clock`.
    pub fn is_over(self, sequence: u64, clock: i64, header: &EpochHeader) -> bool {
        match self {
            Delay::Records(records) => sequence < header.end.saturating_sub(records),
            Delay::Time(delay) => clock <= header.clock.saturating_sub(delay),
        }
    }
}

/// Rows of one batch that wait for labels.
struct WaitingRows {
    predicted: Rc<Predicted>,
    /// Row numbers, ascending.
    rows: Vec<u32>,
    /// Earliest event time of the rows.
    earliest: i64,
}

impl WaitingRows {
    fn new(predicted: Rc<Predicted>, rows: Vec<u32>) -> Self {
        let times = &predicted.allocated.batch.times;
        let earliest = rows.iter().map(|row| times[*row as usize]).min();
        WaitingRows {
            earliest: earliest.unwrap_or(i64::MAX),
            predicted,
            rows,
        }
    }

    /// Whether the batch is of this epoch.
    fn is_of(&self, header: &EpochHeader) -> bool {
        self.predicted.allocated.header.epoch == header.epoch
    }

    /// Takes the rows whose delay is over, for samples that carry their labels.
    fn release(&mut self, delay: Delay, header: &EpochHeader) -> Vec<u32> {
        let batch = &self.predicted.allocated.batch;
        match delay {
            Delay::Records(records) => {
                let known = (header.end.saturating_sub(records)).saturating_sub(batch.first);
                let split = self.rows.partition_point(|row| u64::from(*row) < known);
                let rest = self.rows.split_off(split);
                std::mem::replace(&mut self.rows, rest)
            }
            Delay::Time(delay) => {
                let known = header.clock.saturating_sub(delay);
                if self.earliest > known {
                    return Vec::new();
                }
                let times = &batch.times;
                let (released, rest) = std::mem::take(&mut self.rows)
                    .into_iter()
                    .partition(|row| times[*row as usize] <= known);
                *self = WaitingRows::new(self.predicted.clone(), rest);
                released
            }
        }
    }

    /// Takes the rows that have waited for `wait` since they were read.
    fn give_up(&mut self, wait: Delay, header: &EpochHeader) -> Vec<u32> {
        let allocated = &self.predicted.allocated;
        let read = allocated.header.clock;
        let split = self.rows.partition_point(|row| {
            wait.is_over(allocated.batch.sequence(*row as usize), read, header)
        });
        let rest = self.rows.split_off(split);
        std::mem::replace(&mut self.rows, rest)
    }

    /// Takes the rows that have a label at the beginning of `labels`, and moves `labels` on behind
    /// this batch. Labels without a waiting sample are passed over: it waits on another worker.
    fn label(&mut self, labels: &mut &[(u64, f32)]) -> (Vec<u32>, Vec<f32>) {
        let batch = &self.predicted.allocated.batch;
        let end = batch.first + batch.len() as u64;
        let from = labels.partition_point(|(sequence, _)| *sequence < batch.first);
        let to = labels.partition_point(|(sequence, _)| *sequence < end);
        let mut labels_of_batch = labels[from..to]
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

/// Samples of one worker that wait for their labels, oldest first.
pub struct Joiner {
    arrival: LabelTiming,
    /// Sequence numbers of waiting samples whose labels were requested.
    requested: FxHashSet<u64>,
    waiting: VecDeque<WaitingRows>,
    /// Whether samples keep their ids and attributes while they wait.
    named: bool,
}

/// Output of the joiner for one epoch.
pub struct JoinOutput {
    /// Labels that became known.
    pub labelled: Rc<LabelledEpoch>,
    /// The epoch's own samples that wait at its end, if any: last sequence number, and bytes.
    pub pending: Option<(u64, Vec<u8>)>,
    /// Samples of earlier epochs whose labels arrived, if any: the last sequence number of the
    /// newest [`pending`](JoinOutput::pending) that has one of them, and bytes.
    pub released: Option<(u64, Vec<u8>)>,
    /// Sequence number before which no sample waits.
    pub floor: u64,
    /// Number of predicted samples that wait no longer and got no label.
    pub unlabelled: u64,
}

/// Waiting samples of a stream that is resumed.
#[derive(Clone, Copy, Debug, Default)]
pub struct RestoredRows<'a> {
    /// Bytes of all [`JoinOutput::pending`], oldest first.
    pub pending: &'a [Vec<u8>],
    /// Bytes of all [`JoinOutput::released`].
    pub released: &'a [Vec<u8>],
    /// Header of the last committed epoch.
    pub committed: Option<&'a EpochHeader>,
    /// Sequence numbers of samples whose labels were requested.
    pub requested: &'a [u64],
}

impl Joiner {
    /// Joiner with the samples that waited at the last commit.
    ///
    /// # Errors
    ///
    /// Fails if the bytes are not those of a joiner.
    pub fn restore(arrival: LabelTiming, restored: RestoredRows<'_>) -> Result<Self, Failure> {
        let released = released_sequences(restored.released)?;
        let mut waiting = VecDeque::new();
        for bytes in restored.pending {
            let (predicted, mut rows) = Stored::decode(bytes)?.restore();
            let sequence = |row: &u32| predicted.allocated.batch.sequence(*row as usize);
            rows.retain(|row| !released.contains(&sequence(row)));
            let mut batch = WaitingRows::new(Rc::new(predicted), rows);
            if let Some(header) = restored.committed {
                // Rows that the clock released up to the last commit were counted then.
                match arrival {
                    LabelTiming::InSample(delay) => batch.release(delay, header),
                    // The labels of the last epoch's samples can still be requested.
                    LabelTiming::OnRequest(_) if batch.is_of(header) => Vec::new(),
                    LabelTiming::OnRequest(delay) => batch.release(delay, header),
                    LabelTiming::SeparateStream(wait) => batch.give_up(wait, header),
                };
            }
            if !batch.rows.is_empty() {
                waiting.push_back(batch);
            }
        }
        Ok(Joiner {
            arrival,
            requested: restored.requested.iter().copied().collect(),
            waiting,
            named: false,
        })
    }

    /// Sets whether samples keep their ids and attributes while they wait, across restarts too.
    #[must_use]
    pub fn keep_names(self, named: bool) -> Self {
        Joiner { named, ..self }
    }

    /// Notes that the label of a sample was requested.
    pub fn request(&mut self, sequence: u64) {
        self.requested.insert(sequence);
    }

    /// Takes in an epoch's predictions and returns the labels that are known at its end.
    ///
    /// # Errors
    ///
    /// Fails if waiting samples cannot be encoded.
    pub fn join(&mut self, predicted: Rc<Predicted>) -> Result<JoinOutput, Failure> {
        let header = predicted.allocated.header;
        let rows = predicted.allocated.batch.len() as u32;
        if rows > 0 {
            self.waiting
                .push_back(WaitingRows::new(predicted.clone(), (0..rows).collect()));
        }
        let (mut released, mut unlabelled) = (None, 0);
        let batches = match self.arrival {
            LabelTiming::InSample(delay) | LabelTiming::OnRequest(delay) => {
                self.take_carried(delay, &header, &mut unlabelled)
            }
            LabelTiming::SeparateStream(wait) => {
                let batches = self.take_labelled(&predicted.allocated.labels);
                released = encode_older(&header, &batches)?;
                unlabelled = self.give_up(wait, &header);
                batches
            }
        };
        self.waiting.retain(|waiting| !waiting.rows.is_empty());
        Ok(JoinOutput {
            labelled: Rc::new(LabelledEpoch { batches }),
            pending: self.pending(header)?,
            released,
            floor: self.floor(&header),
            unlabelled,
        })
    }

    /// Takes the samples that carry their labels and whose delay is over.
    fn take_carried(
        &mut self,
        delay: Delay,
        header: &EpochHeader,
        unlabelled: &mut u64,
    ) -> Vec<Labelled> {
        let delay = match header.phase {
            Phase::Live => delay,
            // The labels of the bootstrap are known beforehand: that is what a bootstrap is. At the
            // end of the stream, no delay is left to wait for.
            Phase::Bootstrap | Phase::BootstrapEnds | Phase::Ended => Delay::Records(0),
        };
        let mut batches = Vec::new();
        let on_request = matches!(self.arrival, LabelTiming::OnRequest(_));
        for waiting in &mut self.waiting {
            // Whether a label is requested is known once the epoch of its sample is over.
            if on_request && waiting.is_of(header) && header.phase == Phase::Live {
                continue;
            }
            let released = waiting.release(delay, header);
            if released.is_empty() {
                continue;
            }
            let batch = &waiting.predicted.allocated.batch;
            let is_free = !on_request || !waiting.predicted.is_predicted();
            let mut label = |row: &u32| {
                let row = *row as usize;
                if is_free || self.requested.remove(&batch.sequence(row)) {
                    batch.labels.get(row).copied().unwrap_or(f32::NAN)
                } else {
                    f32::NAN
                }
            };
            let (rows, labels): (Vec<u32>, Vec<f32>) = released
                .iter()
                .map(|row| (*row, label(row)))
                .filter(|(_, label)| !label.is_nan())
                .unzip();
            if waiting.predicted.is_predicted() {
                *unlabelled += (released.len() - rows.len()) as u64;
            }
            batches.push(Labelled {
                predicted: waiting.predicted.clone(),
                rows,
                labels,
            });
        }
        batches
    }

    /// Takes the samples that have one of these labels, which came on their own.
    fn take_labelled(&mut self, mut remaining: &[(u64, f32)]) -> Vec<Labelled> {
        let mut batches = Vec::new();
        for waiting in &mut self.waiting {
            if remaining.is_empty() {
                break;
            }
            let (rows, labels) = waiting.label(&mut remaining);
            if !rows.is_empty() {
                batches.push(Labelled {
                    predicted: waiting.predicted.clone(),
                    rows,
                    labels,
                });
            }
        }
        batches
    }

    /// Drops the samples that have waited long enough; returns how many of them were predicted.
    fn give_up(&mut self, wait: Delay, header: &EpochHeader) -> u64 {
        let wait = match header.phase {
            Phase::Ended => Delay::Records(0),
            _ => wait,
        };
        let mut unlabelled = 0;
        for waiting in &mut self.waiting {
            let dropped = waiting.give_up(wait, header);
            if waiting.predicted.is_predicted() {
                unlabelled += dropped.len() as u64;
            }
        }
        unlabelled
    }

    /// Encodes the waiting samples of the epoch. They are written once: later releases follow from
    /// the clock, or are written as released.
    fn pending(&self, header: EpochHeader) -> Result<Option<(u64, Vec<u8>)>, OperatorError> {
        let Some(newest) = self.waiting.back().filter(|waiting| waiting.is_of(&header)) else {
            return Ok(None);
        };
        let by_id = matches!(self.arrival, LabelTiming::SeparateStream(_));
        let stored = Stored::new(&newest.predicted, &newest.rows, by_id, self.named);
        let batch = &newest.predicted.allocated.batch;
        let last = batch.sequence(batch.len() - 1);
        Ok(Some((last, stored.encode()?)))
    }

    fn floor(&self, header: &EpochHeader) -> u64 {
        self.waiting
            .iter()
            .filter_map(|waiting| {
                let row = *waiting.rows.first()?;
                Some(waiting.predicted.allocated.batch.sequence(row as usize))
            })
            .min()
            .unwrap_or(header.end)
    }
}

/// Encodes the labelled rows of earlier epochs as released. Those of the epoch itself were never
/// stored as pending.
fn encode_older(
    header: &EpochHeader,
    batches: &[Labelled],
) -> Result<Option<(u64, Vec<u8>)>, OperatorError> {
    let mut sequences: Vec<u64> = Vec::new();
    let mut last = None;
    for labelled in batches {
        let allocated = &labelled.predicted.allocated;
        if allocated.header.epoch == header.epoch {
            continue;
        }
        let batch = &allocated.batch;
        sequences.extend(
            labelled
                .rows
                .iter()
                .map(|row| batch.sequence(*row as usize)),
        );
        // The list is needed as long as the whole batch, of which other rows may wait longer.
        last = last.max(batch.len().checked_sub(1).map(|row| batch.sequence(row)));
    }
    match last {
        Some(last) => Ok(Some((last, encode_released(&sequences)?))),
        None => Ok(None),
    }
}
