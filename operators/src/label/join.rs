//! The join of predictions with their labels: a sample waits until its label is known.

use std::rc::Rc;

use rustc_hash::FxHashSet;
use serde::{Deserialize, Serialize};
use timely::dataflow::operators::vec::Map;

use super::waiting::{Taken, WaitingQueue, WaitingRows};
use crate::data::Epoch;
use crate::epochs::{Epochs, OnFailure};
use crate::error::{Failure, OperatorError};
use crate::flow::{
    Effect, EpochHeader, Flow, Labelled, LabelledEpoch, Phase, Predicted, Stored, TaskUpdate,
    encode_released, released_sequences,
};

/// Joins predictions with their labels. The first returned stream has the labels that became known;
/// the second has what is committed, so that after a restart the same samples wait.
///
/// `updates` is a feedback edge, broadcast to every worker; of its updates, the label requests
/// matter here.
pub fn join<'scope>(
    predicted: Flow<'scope, Rc<Predicted>>,
    updates: Flow<'scope, TaskUpdate>,
    joiner: Joiner,
    on_failure: OnFailure,
) -> (Flow<'scope, Rc<LabelledEpoch>>, Flow<'scope, Effect>) {
    let joined: Flow<'scope, Rc<JoinOutput>> = predicted.each_after(
        updates,
        "Join",
        on_failure,
        joiner,
        |joiner, updates| {
            for update in updates {
                if let TaskUpdate::LabelRequested(sequence) = update {
                    joiner.request(sequence);
                }
            }
            Ok(())
        },
        |joiner, predicted, out| {
            out.give(Rc::new(joiner.join(predicted)?));
            Ok(())
        },
    );
    let labelled = joined.clone().map(|joined| joined.labelled.clone());
    let effects = joined.flat_map(|joined| {
        let mut effects = vec![Effect::PendingFloor(joined.floor)];
        if joined.unlabelled > 0 {
            effects.push(Effect::Unlabelled(joined.unlabelled));
        }
        if let Some((last, bytes)) = joined.pending.clone() {
            effects.push(Effect::Pending { last, bytes });
        }
        if let Some((last, bytes)) = joined.released.clone() {
            effects.push(Effect::Released { last, bytes });
        }
        effects
    });
    (labelled, effects)
}

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

/// Samples of one worker that wait for their labels, oldest first.
pub struct Joiner {
    timing: LabelTiming,
    /// Sequence numbers of samples in `waiting` whose labels were requested.
    requested: FxHashSet<u64>,
    waiting: WaitingQueue,
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
    pub fn restore(timing: LabelTiming, restored: RestoredRows<'_>) -> Result<Self, Failure> {
        let released = released_sequences(restored.released)?;
        let by_time = match timing {
            LabelTiming::InSample(delay) | LabelTiming::OnRequest(delay) => {
                matches!(delay, Delay::Time(_))
            }
            LabelTiming::SeparateStream(_) => false,
        };
        let mut waiting = WaitingQueue::new(by_time);
        for bytes in restored.pending {
            let (predicted, mut rows) = Stored::decode(bytes)?.restore();
            let sequence = |row: &u32| predicted.allocated.batch.sequence(*row as usize);
            rows.retain(|row| !released.contains(&sequence(row)));
            // A clock that was ahead for a moment must not hold its samples until it is that late.
            let read = predicted.allocated.header.clock;
            let read = restored.committed.map_or(read, |last| read.min(last.clock));
            waiting.push(WaitingRows::new(Rc::new(predicted), rows, read));
        }
        let mut joiner = Joiner {
            timing,
            requested: FxHashSet::default(),
            waiting,
            named: false,
        };
        if let Some(header) = restored.committed {
            // Rows that the clock released up to the last commit were counted then.
            match timing {
                LabelTiming::InSample(delay) => joiner.take_due(delay, None, header),
                // The labels of the last epoch's samples can still be requested.
                LabelTiming::OnRequest(delay) => joiner.take_due(delay, Some(header.epoch), header),
                LabelTiming::SeparateStream(wait) => joiner.take_over(wait, header),
            };
        }
        for sequence in restored.requested {
            joiner.request(*sequence);
        }
        Ok(joiner)
    }

    /// Sets whether samples keep their ids and attributes while they wait, across restarts too.
    #[must_use]
    pub fn keep_names(self, named: bool) -> Self {
        Joiner { named, ..self }
    }

    /// Notes that the label of a sample was requested, if the sample waits on this worker.
    pub fn request(&mut self, sequence: u64) {
        let counts = matches!(self.timing, LabelTiming::OnRequest(_));
        if counts && self.waiting.holds(sequence) {
            self.requested.insert(sequence);
        }
    }

    /// Takes the samples that carry their labels and whose delay is over, except those of the epoch
    /// `spared`.
    fn take_due(
        &mut self,
        delay: Delay,
        spared: Option<Epoch>,
        header: &EpochHeader,
    ) -> Vec<Taken> {
        match delay {
            Delay::Records(_) => {
                let is_over = |sequence, read| delay.is_over(sequence, read, header);
                self.waiting.take_front(spared, is_over)
            }
            Delay::Time(delay) => {
                let known = header.clock.saturating_sub(delay);
                self.waiting.take_until(spared, known)
            }
        }
    }

    /// Takes the samples that have waited for their labels for long enough.
    fn take_over(&mut self, wait: Delay, header: &EpochHeader) -> Vec<Taken> {
        let is_over = |sequence, read| wait.is_over(sequence, read, header);
        self.waiting.take_front(None, is_over)
    }

    /// Takes in an epoch's predictions and returns the labels that are known at its end.
    ///
    /// # Errors
    ///
    /// Fails if waiting samples cannot be encoded.
    pub fn join(&mut self, predicted: Rc<Predicted>) -> Result<JoinOutput, Failure> {
        let header = predicted.allocated.header;
        let rows = predicted.allocated.batch.len() as u32;
        let rows = (0..rows).collect();
        self.waiting
            .push(WaitingRows::new(predicted.clone(), rows, header.clock));
        let (mut released, mut unlabelled) = (None, 0);
        let batches = match self.timing {
            LabelTiming::InSample(delay) | LabelTiming::OnRequest(delay) => {
                self.take_carried(delay, &header, &mut unlabelled)
            }
            LabelTiming::SeparateStream(wait) => {
                let batches = self.waiting.take_labelled(&predicted.allocated.labels);
                released = encode_older(&header, &batches)?;
                unlabelled = self.give_up(wait, &header);
                batches
            }
        };
        Ok(JoinOutput {
            labelled: Rc::new(LabelledEpoch { batches }),
            pending: self.pending(header)?,
            released,
            floor: self.waiting.floor().unwrap_or(header.end),
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
        let on_request = matches!(self.timing, LabelTiming::OnRequest(_));
        // Whether a label is requested is known once the epoch of its sample is over.
        let spares = on_request && header.phase == Phase::Live;
        let taken = self.take_due(delay, spares.then_some(header.epoch), header);
        let mut batches = Vec::with_capacity(taken.len());
        for (predicted, released) in taken {
            let batch = &predicted.allocated.batch;
            let is_free = !on_request || !predicted.is_predicted();
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
            if predicted.is_predicted() {
                *unlabelled += (released.len() - rows.len()) as u64;
            }
            batches.push(Labelled {
                predicted,
                rows,
                labels,
            });
        }
        batches
    }

    /// Drops the samples that have waited long enough; returns how many of them were predicted.
    fn give_up(&mut self, wait: Delay, header: &EpochHeader) -> u64 {
        let wait = match header.phase {
            Phase::Ended => Delay::Records(0),
            _ => wait,
        };
        let dropped = self.take_over(wait, header).into_iter();
        let predicted = dropped.filter(|(predicted, _)| predicted.is_predicted());
        predicted.map(|(_, rows)| rows.len() as u64).sum()
    }

    /// Encodes the waiting samples of the epoch. They are written once: later releases follow from
    /// the clock, or are written as released.
    fn pending(&self, header: EpochHeader) -> Result<Option<(u64, Vec<u8>)>, OperatorError> {
        let newest = self.waiting.newest();
        let Some(newest) = newest.filter(|waiting| waiting.is_of(header.epoch)) else {
            return Ok(None);
        };
        let by_id = matches!(self.timing, LabelTiming::SeparateStream(_));
        let stored = Stored::new(&newest.predicted, &newest.rows, by_id, self.named);
        let batch = &newest.predicted.allocated.batch;
        let last = batch.sequence(batch.len() - 1);
        Ok(Some((last, stored.encode()?)))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_other_workers_are_not_kept() {
        for timing in [LabelTiming::OnRequest, LabelTiming::SeparateStream] {
            let timing = timing(Delay::Records(10));
            let restored = RestoredRows {
                requested: &[3],
                ..RestoredRows::default()
            };
            let mut joiner = Joiner::restore(timing, restored).unwrap();
            joiner.request(7);
            assert!(joiner.requested.is_empty());
        }
    }
}
