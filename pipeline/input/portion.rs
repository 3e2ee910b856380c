//! Portions: the part of an epoch that one reader reads, batch by batch for the workers.

use std::time::{Duration, Instant};

use perennial_connectors::source::Read;
use perennial_connectors::source::kafka::Limit;
use perennial_operators::Batch;

use super::epoch_plan::EpochPlan;
use crate::config::Mode;

/// Limit on the bytes of topics' records in the epoch in which clusters are found.
const CLUSTERING_BYTES: usize = 256 << 20;

/// Effectively no time limit (24 h).
const NO_TIME_LIMIT: Duration = Duration::from_secs(24 * 60 * 60);

/// Limits on what is read from topics for an epoch.
pub(crate) struct Limits {
    began: Instant,
    tick: Duration,
    bytes: usize,
    workers: usize,
}

impl Limits {
    /// Limits of the epoch that begins now; `finding` if clusters are found in it.
    pub(crate) fn new(plan: &EpochPlan, finding: bool) -> Limits {
        Limits {
            began: Instant::now(),
            // A replay is cut by counts alone, and ends with its topics.
            tick: match plan.mode {
                Mode::Live if !finding => plan.tick,
                _ => NO_TIME_LIMIT,
            },
            bytes: if finding {
                CLUSTERING_BYTES
            } else {
                plan.bytes
            },
            workers: plan.workers,
        }
    }

    /// Limit on the part of worker number `part`, counted from 1: the tick is divided among
    /// workers.
    fn of_part(&self, records: usize, part: u32) -> Limit {
        Limit {
            records,
            bytes: self.bytes.div_ceil(self.workers),
            until: self.began + self.tick * part / self.workers as u32,
        }
    }
}

/// The part of an epoch that one reader reads.
pub(crate) struct Portion {
    /// Batches, each with the worker that it is for.
    pub(super) batches: Vec<(usize, Batch)>,
    pub(super) dead_letters: Vec<perennial_operators::flow::DeadLetter>,
    /// Records of the stream that were read, bad ones included.
    pub(super) records: u64,
    /// Records of the stream up to the end of the portion.
    pub(super) position: u64,
    /// Whether nothing was read because the stream has ended.
    pub(super) nothing_left: bool,
}

impl Portion {
    /// An empty portion that begins at `position`.
    pub(crate) fn new(position: u64) -> Self {
        Portion {
            batches: Vec::new(),
            dead_letters: Vec::new(),
            records: 0,
            position,
            nothing_left: false,
        }
    }

    /// Reads as [`fill`](Self::fill) does from topics, where each worker gets what comes in its
    /// part of the tick.
    pub(crate) fn fill_within<E>(
        &mut self,
        wanted: u64,
        limits: &Limits,
        mut read: impl FnMut(Limit) -> Result<Read, E>,
    ) -> Result<(), E> {
        let mut part = 0;
        self.fill(wanted, limits.workers as u64, |records| {
            part += 1;
            read(limits.of_part(records, part))
        })
    }

    /// Reads the `wanted` records of an epoch in `workers` parts of about the same size, one for
    /// each worker. With no record wanted every part is empty, so that all workers see the epoch.
    pub(crate) fn fill<E>(
        &mut self,
        wanted: u64,
        workers: u64,
        mut read: impl FnMut(usize) -> Result<Read, E>,
    ) -> Result<(), E> {
        let mut ended = false;
        for worker in 0..workers {
            let part = wanted * (worker + 1) / workers - wanted * worker / workers;
            let Read {
                batch,
                dead_letters,
                position,
                ended: stream_ended,
            } = read(part as usize)?;
            ended |= stream_ended;
            // Not every dead letter is a record of the stream: labels have some of their own.
            self.records += position - self.position;
            self.position = position;
            self.dead_letters.extend(dead_letters);
            self.batches.push((worker as usize, batch));
        }
        self.nothing_left = wanted > 0 && self.records == 0 && ended;
        Ok(())
    }
}
