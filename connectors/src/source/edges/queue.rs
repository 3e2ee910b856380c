//! What one edge has sent and was not taken in yet.

use std::collections::VecDeque;

use perennial_operators::flow::EdgeProgress;
use perennial_operators::{SharedSamples, SharedStatistics};

use crate::link::{Change, Changes, Donation, LinkError, now};

/// A message that waits.
struct Waiting {
    changes: VecDeque<(u64, Change)>,
    partition: i32,
    offset: i64,
    size: usize,
    since: i64,
    sent: i64,
    shed: u64,
}

/// What one edge has sent and was not taken in yet, in order.
pub(super) struct Queue {
    waiting: VecDeque<Waiting>,
    /// How far it was taken in.
    progress: EdgeProgress,
    /// What comes next, beyond what waits: the knowledge base it is of, and the number of the change.
    expected: (i64, u64),
    /// The part of the first change that the next sample is in, and its row there; both follow from the progress.
    place: (usize, usize),
    has_moved: bool,
}

impl Queue {
    pub(super) fn new(progress: EdgeProgress) -> Queue {
        Queue {
            waiting: VecDeque::new(),
            expected: (progress.since, progress.next),
            progress,
            place: (0, 0),
            has_moved: false,
        }
    }

    /// Adds a message. What of it is known is left out: it was sent again after an edge did not hear that it had arrived.
    ///
    /// # Errors
    /// It is of an earlier knowledge base of the edge, or its columns do not fit together.
    pub(super) fn push(
        &mut self,
        message: Changes,
        partition: i32,
        offset: i64,
        size: usize,
    ) -> Result<(), LinkError> {
        let (since, next) = self.expected;
        if message.since < since {
            return Err(LinkError::Old);
        }
        if !message.changes.iter().all(|(_, change)| is_sound(change)) {
            return Err(LinkError::Torn);
        }
        let next = if message.since > since { 0 } else { next };
        let changes: VecDeque<_> = message
            .changes
            .into_iter()
            .filter(|(number, _)| *number >= next)
            .collect();
        let Some((last, _)) = changes.back() else {
            return Ok(());
        };
        self.expected = (message.since, last + 1);
        self.waiting.push_back(Waiting {
            changes,
            partition,
            offset,
            size,
            since: message.since,
            // Nothing depends on an edge's clock but how old what it sent is.
            sent: message.sent.min(now()),
            shed: message.shed,
        });
        Ok(())
    }

    /// Takes in what comes before the next sample, and returns how the edge did, and its models.
    pub(super) fn settle(&mut self) -> (Vec<SharedStatistics>, Vec<Donation>) {
        let (mut reported, mut donated) = (Vec::new(), Vec::new());
        while let Some(first) = self.waiting.front_mut() {
            if first.since != self.progress.since {
                // The edge has a new knowledge base, which counts anew.
                let progress = &mut self.progress;
                (progress.since, progress.next, progress.rows) = (first.since, 0, 0);
                self.place = (0, 0);
            }
            let Some((number, change)) = first.changes.front_mut() else {
                let (size, sent, shed) = (first.size, first.sent, first.shed);
                self.progress.bytes += size as u64;
                self.progress.sent = self.progress.sent.max(sent);
                self.progress.shed = shed;
                self.waiting.pop_front();
                self.has_moved = true;
                continue;
            };
            // After a restart, what of a change was taken in is passed over.
            if *number == self.progress.next && self.place == (0, 0) {
                self.place = place(change, self.progress.rows);
            }
            if *number != self.progress.next {
                // What is missing was shed.
                (self.progress.next, self.progress.rows) = (*number, 0);
                self.place = place(change, 0);
            }
            if self.place.0 < change.samples.len() {
                break;
            }
            reported.append(&mut change.statistics);
            donated.append(&mut change.models);
            (self.progress.next, self.progress.rows) = (*number + 1, 0);
            self.place = (0, 0);
            first.changes.pop_front();
            self.has_moved = true;
        }
        (reported, donated)
    }

    /// The event time of the next sample; none before there is one. It never goes back, so that an edge whose clock does holds
    /// nobody up.
    pub(super) fn time(&self) -> Option<i64> {
        let (_, change) = self.waiting.front()?.changes.front()?;
        let part = change.samples.get(self.place.0)?;
        Some((*part.times.get(self.place.1)?).max(self.progress.time))
    }

    /// The next sample, and the offset of its message. It counts as taken in.
    pub(super) fn next(&mut self) -> Option<(&SharedSamples, usize, i64)> {
        let time = self.time()?;
        let first = self.waiting.front()?;
        let (_, change) = first.changes.front()?;
        let (part, row) = self.place;
        self.place = match row + 1 < change.samples.get(part)?.len() {
            true => (part, row + 1),
            false => (part + 1, 0),
        };
        self.progress.rows += 1;
        self.progress.samples += 1;
        self.progress.time = time;
        Some((change.samples.get(part)?, row, first.offset))
    }

    /// How far it was taken in.
    pub(super) fn progress(&self) -> EdgeProgress {
        self.progress
    }

    /// The same, if it has moved beside samples since the last call.
    pub(super) fn moved(&mut self) -> Option<EdgeProgress> {
        std::mem::take(&mut self.has_moved).then_some(self.progress)
    }

    /// The offset of the first message of a partition that waits.
    pub(super) fn first_offset(&self, partition: i32) -> Option<i64> {
        let of = |waiting: &&Waiting| waiting.partition == partition;
        Some(self.waiting.iter().find(of)?.offset)
    }

    /// The bytes of what waits.
    pub(super) fn bytes(&self) -> usize {
        self.waiting.iter().map(|waiting| waiting.size).sum()
    }
}

/// Where the sample after so many of a change is: parts are never empty.
fn place(change: &Change, rows: u64) -> (usize, usize) {
    let mut left = rows as usize;
    for (number, part) in change.samples.iter().enumerate() {
        if left < part.len() {
            return (number, left);
        }
        left -= part.len();
    }
    (change.samples.len(), 0)
}

/// Whether the columns of all samples have the same length, every part has samples, and models are what they say.
fn is_sound(change: &Change) -> bool {
    let models = change.models.iter().all(Donation::is_sound);
    models
        && change.samples.iter().all(|part| {
            let rows = part.len();
            let attributes = part.attributes.iter().flatten();
            let features = part.features.iter().flatten();
            rows > 0
                && part.sequences.len() == rows
                && part.labels.len() == rows
                && part.ids.as_ref().is_none_or(|ids| ids.is_sound(rows))
                && attributes.clone().all(|texts| texts.codes.len() == rows)
                && features.clone().all(|values| values.len() == rows)
        })
}
