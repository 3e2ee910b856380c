//! Joining predictions with labels: a sample waits until its label is known.

use std::collections::VecDeque;
use std::rc::Rc;

use rustc_hash::FxHashSet;
use serde::{Deserialize, Serialize};

use crate::Failure;
use crate::flow::{
    EpochHeader, Labelled, LabelledEpoch, Phase, Predicted, Stored, released_sequences,
};

/// When and how the label of a sample becomes known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LabelTiming {
    /// In the sample itself; it becomes known after the delay.
    InSample(Delay),
    /// Like `InSample`, but only the labels that were asked for become known.
    OnRequest(Delay),
    /// In a stream of its own; it is known when it arrives. A sample waits for the delay at most.
    SeparateStream(Delay),
}

/// How long after its sample a label becomes known, or a sample gives up waiting for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Delay {
    /// Once this many later samples were read, over all workers.
    Records(u64),
    /// Once the stream's clock has moved on by this many microseconds: from its event time, or, where it
    /// is waited for a label, from when it was read.
    Time(i64),
}

impl Delay {
    /// Whether it is over, at the end of an epoch, for what came as the sample number `sequence` when the
    /// stream's clock was `clock`.
    pub fn is_over(self, sequence: u64, clock: i64, header: &EpochHeader) -> bool {
        match self {
            Delay::Records(records) => sequence < header.end.saturating_sub(records),
            Delay::Time(delay) => clock <= header.clock.saturating_sub(delay),
        }
    }
}

/// Samples of one batch that wait.
struct WaitingRows {
    scored: Rc<Predicted>,
    /// The rows that wait, ascending.
    rows: Vec<u32>,
    /// The earliest event time among them.
    earliest: i64,
}

impl WaitingRows {
    fn new(scored: Rc<Predicted>, rows: Vec<u32>) -> Self {
        let times = &scored.allocated.batch.times;
        let earliest = rows.iter().map(|row| times[*row as usize]).min();
        WaitingRows {
            earliest: earliest.unwrap_or(i64::MAX),
            scored,
            rows,
        }
    }

    /// Whether it is of this epoch.
    fn is_of(&self, header: &EpochHeader) -> bool {
        self.scored.allocated.header.epoch == header.epoch
    }

    /// Takes the rows whose delay has passed.
    fn release(&mut self, delay: Delay, header: &EpochHeader) -> Vec<u32> {
        let batch = &self.scored.allocated.batch;
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
                *self = WaitingRows::new(self.scored.clone(), rest);
                released
            }
        }
    }

    /// Takes the rows that have waited for so long since they were read.
    fn give_up(&mut self, wait: Delay, header: &EpochHeader) -> Vec<u32> {
        let allocated = &self.scored.allocated;
        let read = allocated.header.clock;
        let split = self.rows.partition_point(|row| {
            wait.is_over(allocated.batch.sequence(*row as usize), read, header)
        });
        let rest = self.rows.split_off(split);
        std::mem::replace(&mut self.rows, rest)
    }

    /// Takes the rows that the beginning of `labels` names, and moves it on behind them. A label whose
    /// sample does not wait here is passed over: it waits on another worker.
    fn label(&mut self, labels: &mut &[(u64, f32)]) -> (Vec<u32>, Vec<f32>) {
        let batch = &self.scored.allocated.batch;
        let end = batch.first + batch.len() as u64;
        let (before, own) = (
            labels.partition_point(|(sequence, _)| *sequence < batch.first),
            labels.partition_point(|(sequence, _)| *sequence < end),
        );
        let own = &labels[before..own];
        *labels = &labels[before + own.len()..];
        let mut named = own
            .iter()
            .map(|(sequence, label)| ((sequence - batch.first) as u32, *label))
            .peekable();
        let mut known = (Vec::new(), Vec::new());
        self.rows.retain(|row| {
            while named.next_if(|(other, _)| other < row).is_some() {}
            match named.next_if(|(other, _)| other == row) {
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

/// The samples of one worker that wait for their labels, oldest first.
pub struct Joiner {
    arrival: LabelTiming,
    /// Samples that wait whose labels are asked for.
    requested: FxHashSet<u64>,
    waiting: VecDeque<WaitingRows>,
    /// Whether samples keep their ids and attributes while they wait.
    named: bool,
}

/// What an epoch's end means for the joiner's samples.
pub struct JoinOutput {
    /// Labels that became known.
    pub labelled: Rc<LabelledEpoch>,
    /// The epoch's own samples that wait on, if any: last sequence number and serialized form.
    pub pending: Option<(u64, Vec<u8>)>,
    /// Samples of earlier epochs that wait no more since a label of their own came: the last sequence number
    /// of what was given out as pending with the newest of them, and the serialized form.
    pub released: Option<(u64, Vec<u8>)>,
    /// No sample before this sequence number waits.
    pub floor: u64,
    /// Predicted samples whose delay has passed and that have no label.
    pub unlabelled: u64,
}

/// What a stream that goes on has of samples that wait.
#[derive(Clone, Copy, Debug, Default)]
pub struct RestoredRows<'a> {
    /// What was given out as pending, oldest first.
    pub pending: &'a [Vec<u8>],
    /// What was given out as released.
    pub released: &'a [Vec<u8>],
    /// The header of the last committed epoch.
    pub committed: Option<&'a EpochHeader>,
    /// The sequence numbers of samples whose labels are asked for.
    pub requested: &'a [u64],
}

impl Joiner {
    /// A joiner with what waited when the stream was last committed.
    pub fn restore(arrival: LabelTiming, waited: RestoredRows<'_>) -> Result<Self, Failure> {
        let released = released_sequences(waited.released)?;
        let mut waiting = VecDeque::new();
        for bytes in waited.pending {
            let stored: Stored = postcard::from_bytes(bytes)?;
            let (scored, mut rows) = stored.restore();
            rows.retain(|row| !released.contains(&scored.allocated.batch.sequence(*row as usize)));
            let mut batch = WaitingRows::new(Rc::new(scored), rows);
            if let Some(header) = waited.committed {
                // What the clock released until then was counted then.
                match arrival {
                    LabelTiming::InSample(delay) => batch.release(delay, header),
                    // What was read in the last epoch can still be asked for.
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
            requested: waited.requested.iter().copied().collect(),
            waiting,
            named: false,
        })
    }

    /// Lets samples keep their ids and attributes while they wait, across restarts too.
    #[must_use]
    pub fn naming(self, named: bool) -> Self {
        Joiner { named, ..self }
    }

    /// The label of a sample is asked for.
    pub fn request(&mut self, sequence: u64) {
        self.requested.insert(sequence);
    }

    /// Takes in an epoch's predictions and gives out the labels known at its end.
    pub fn join(&mut self, scored: Rc<Predicted>) -> Result<JoinOutput, Failure> {
        let header = scored.allocated.header;
        let rows = scored.allocated.batch.len() as u32;
        if rows > 0 {
            self.waiting
                .push_back(WaitingRows::new(scored.clone(), (0..rows).collect()));
        }
        let mut joined = JoinOutput {
            labelled: Rc::new(LabelledEpoch {
                batches: Vec::new(),
            }),
            pending: None,
            released: None,
            floor: 0,
            unlabelled: 0,
        };
        let parts = match self.arrival {
            LabelTiming::InSample(delay) | LabelTiming::OnRequest(delay) => {
                self.carried(delay, &header, &mut joined.unlabelled)
            }
            LabelTiming::SeparateStream(wait) => {
                let parts = self.apart(&scored.allocated.labels);
                joined.released = released(&header, &parts)?;
                joined.unlabelled = self.give_up(wait, &header);
                parts
            }
        };
        joined.labelled = Rc::new(LabelledEpoch { batches: parts });
        self.waiting.retain(|waiting| !waiting.rows.is_empty());
        joined.pending = self.pending(header)?;
        joined.floor = self.floor(&header);
        Ok(joined)
    }

    /// Labels that the samples carry and whose delay has passed.
    fn carried(
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
        let mut parts = Vec::new();
        let on_request = matches!(self.arrival, LabelTiming::OnRequest(_));
        for waiting in &mut self.waiting {
            // Whether a label is asked for is known when the epoch of its sample is over.
            if on_request && waiting.is_of(header) && header.phase == Phase::Live {
                continue;
            }
            let released = waiting.release(delay, header);
            if released.is_empty() {
                continue;
            }
            let batch = &waiting.scored.allocated.batch;
            let is_free = !on_request || !waiting.scored.is_predicted();
            let mut label = |row: &u32| match is_free
                || self.requested.remove(&batch.sequence(*row as usize))
            {
                true => batch.labels.get(*row as usize).copied().unwrap_or(f32::NAN),
                false => f32::NAN,
            };
            let (rows, labels): (Vec<u32>, Vec<f32>) = released
                .iter()
                .map(|row| (*row, label(row)))
                .filter(|(_, label)| !label.is_nan())
                .unzip();
            if waiting.scored.is_predicted() {
                *unlabelled += (released.len() - rows.len()) as u64;
            }
            parts.push(Labelled {
                predicted: waiting.scored.clone(),
                rows,
                labels,
            });
        }
        parts
    }

    /// Labels that came on their own, for samples that wait here.
    fn apart(&mut self, labels: &[(u64, f32)]) -> Vec<Labelled> {
        let mut labels = labels;
        let mut parts = Vec::new();
        for waiting in &mut self.waiting {
            if labels.is_empty() {
                break;
            }
            let (rows, labels) = waiting.label(&mut labels);
            if !rows.is_empty() {
                parts.push(Labelled {
                    predicted: waiting.scored.clone(),
                    rows,
                    labels,
                });
            }
        }
        parts
    }

    /// Lets go of the samples that have waited long enough; the number of predicted ones.
    fn give_up(&mut self, wait: Delay, header: &EpochHeader) -> u64 {
        let wait = match header.phase {
            Phase::Ended => Delay::Records(0),
            _ => wait,
        };
        let mut unlabelled = 0;
        for waiting in &mut self.waiting {
            let released = waiting.give_up(wait, header);
            if waiting.scored.is_predicted() {
                unlabelled += released.len() as u64;
            }
        }
        unlabelled
    }

    /// The samples of epoch `header` that wait, serialized. They are written once: what is released
    /// later follows from the clock, or is written as released.
    fn pending(&self, header: EpochHeader) -> Result<Option<(u64, Vec<u8>)>, Failure> {
        let Some(newest) = self.waiting.back().filter(|waiting| waiting.is_of(&header)) else {
            return Ok(None);
        };
        let by_id = matches!(self.arrival, LabelTiming::SeparateStream(_));
        let stored = Stored::new(&newest.scored, &newest.rows, by_id, self.named);
        let batch = &newest.scored.allocated.batch;
        let last = batch.sequence(batch.len() - 1);
        Ok(Some((last, postcard::to_stdvec(&stored)?)))
    }

    fn floor(&self, header: &EpochHeader) -> u64 {
        self.waiting
            .iter()
            .filter_map(|waiting| {
                let row = *waiting.rows.first()?;
                Some(waiting.scored.allocated.batch.sequence(row as usize))
            })
            .min()
            .unwrap_or(header.end)
    }
}

/// The rows of earlier epochs among those released, serialized; those of the epoch itself are never
/// stored as waiting.
pub(crate) fn released(
    header: &EpochHeader,
    parts: &[Labelled],
) -> Result<Option<(u64, Vec<u8>)>, Failure> {
    let batches = parts
        .iter()
        .map(|part| (&part.predicted.allocated, &part.rows))
        .filter(|(allocated, _)| allocated.header.epoch != header.epoch);
    let mut sequences: Vec<u64> = Vec::new();
    // It must be kept for as long as the batch is, of which others may wait longer.
    let mut last = None;
    for (allocated, rows) in batches {
        let batch = &allocated.batch;
        sequences.extend(rows.iter().map(|row| batch.sequence(*row as usize)));
        last = last.max(batch.len().checked_sub(1).map(|row| batch.sequence(row)));
    }
    match last {
        Some(last) => Ok(Some((last, postcard::to_stdvec(&sequences)?))),
        None => Ok(None),
    }
}
