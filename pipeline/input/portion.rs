//! Portions: the part of an epoch that each worker gets.

use std::time::{Duration, Instant};

use perennial_connectors::source::Read;
use perennial_connectors::source::kafka::Limit;
use perennial_operators::Batch;

use super::plan::EpochPlan;
use super::reader::{FOUND_AMONG_BYTES, LONG};
use crate::config::Mode;

/// How much of topics is read for an epoch.
pub(crate) struct Limits {
    began: Instant,
    tick: Duration,
    bytes: usize,
    workers: usize,
}

impl Limits {
    pub(crate) fn new(cut: &EpochPlan, finding: bool) -> Limits {
        Limits {
            began: Instant::now(),
            // A replay is cut by counts alone, and ends with its topics.
            tick: match cut.mode {
                Mode::Live if !finding => cut.tick,
                _ => LONG,
            },
            bytes: if finding {
                FOUND_AMONG_BYTES
            } else {
                cut.bytes
            },
            workers: cut.workers,
        }
    }

    /// Each worker gets what comes in its part of the tick; this is the how many-th.
    fn of(&self, records: usize, part: u32) -> Limit {
        Limit {
            records,
            bytes: self.bytes.div_ceil(self.workers),
            until: self.began + self.tick * part / self.workers as u32,
        }
    }
}

/// What one reader has of an epoch.
pub(crate) struct Portion {
    pub(super) batches: Vec<(usize, Batch)>,
    pub(super) dead_letters: Vec<perennial_operators::flow::DeadLetter>,
    pub(super) records: u64,
    /// Records of the stream up to its end.
    pub(super) position: u64,
    /// Whether the stream gave nothing because it has ended.
    pub(super) nothing_left: bool,
}

impl Portion {
    pub(crate) fn new(position: u64) -> Self {
        Portion {
            batches: Vec::new(),
            dead_letters: Vec::new(),
            records: 0,
            position,
            nothing_left: false,
        }
    }

    /// The same from topics, where each worker gets what comes in its part of the tick.
    pub(crate) fn fill_within<E>(
        &mut self,
        wanted: u64,
        limits: &Limits,
        mut read: impl FnMut(Limit) -> Result<Read, E>,
    ) -> Result<(), E> {
        let mut parts = 0;
        self.fill(wanted, limits.workers as u64, |records| {
            parts += 1;
            read(limits.of(records, parts))
        })
    }

    /// Reads an epoch's records in as many parts as there are workers; an empty part for each where
    /// nothing is wanted.
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
                ended: nothing_follows,
            } = read(part as usize)?;
            ended |= nothing_follows;
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
