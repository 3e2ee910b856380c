//! The queue of one edge's changes.

use std::collections::VecDeque;

use perennial_operators::flow::EdgeProgress;
use perennial_operators::{SharedSamples, SharedStatistics};

use crate::link::{Change, Changes, Donation, LinkError, now};

/// A message in the queue.
struct WaitingMessage {
    changes: VecDeque<(u64, Change)>,
    partition: i32,
    offset: i64,
    size: usize,
    since: i64,
    sent: i64,
    shed: u64,
}

/// Changes of one edge in order, and its progress through them.
pub(super) struct Queue {
    waiting: VecDeque<WaitingMessage>,
    /// Progress of the edge.
    progress: EdgeProgress,
    /// The next change behind the queue: when its knowledge base was created, and its number.
    expected: (i64, u64),
    /// The part of the first change with the next sample, and the row in it. Both follow from the
    /// progress.
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

    /// Adds a message without its known changes: an edge sends a message again if it does not learn
    /// that it has arrived.
    ///
    /// # Errors
    /// The message is of an earlier knowledge base of the edge, or its columns do not match.
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
        self.waiting.push_back(WaitingMessage {
            changes,
            partition,
            offset,
            size,
            since: message.since,
            // A wrong clock of an edge must not make its changes newer than now.
            sent: message.sent.min(now()),
            shed: message.shed,
        });
        Ok(())
    }

    /// Notes that the waiting messages of a partition are no longer in the topic: a restart resumes
    /// at `next` without them.
    pub(super) fn forget_offsets(&mut self, partition: i32, next: i64) {
        let waiting = self.waiting.iter_mut();
        for message in waiting.filter(|message| message.partition == partition) {
            message.offset = next;
        }
    }

    /// Moves to the next sample, and returns the statistics and models before it.
    pub(super) fn advance(&mut self) -> (Vec<SharedStatistics>, Vec<Donation>) {
        let (mut reported, mut donated) = (Vec::new(), Vec::new());
        while let Some(first) = self.waiting.front_mut() {
            if first.since != self.progress.since {
                // The edge has a new knowledge base, which numbers its changes from 0.
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
            // After a restart, the rows of a change that are done are skipped.
            if *number == self.progress.next && self.place == (0, 0) {
                self.place = place(change, self.progress.rows);
            }
            if *number != self.progress.next {
                // The missing changes were shed.
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

    /// The event time of the next sample; none if there is none. It never decreases, so that an
    /// edge whose clock does not delay the others.
    pub(super) fn time(&self) -> Option<i64> {
        let (_, change) = self.waiting.front()?.changes.front()?;
        let part = change.samples.get(self.place.0)?;
        Some((*part.times.get(self.place.1)?).max(self.progress.time))
    }

    /// Takes the next sample: its part, its row, and the offset of its message.
    pub(super) fn next(&mut self) -> Option<(&SharedSamples, usize, i64)> {
        let time = self.time()?;
        let first = self.waiting.front()?;
        let (_, change) = first.changes.front()?;
        let (part, row) = self.place;
        self.place = if row + 1 < change.samples.get(part)?.len() {
            (part, row + 1)
        } else {
            (part + 1, 0)
        };
        self.progress.rows += 1;
        self.progress.samples += 1;
        self.progress.time = time;
        Some((change.samples.get(part)?, row, first.offset))
    }

    /// Progress of the edge.
    pub(super) fn progress(&self) -> EdgeProgress {
        self.progress
    }

    /// Progress of the edge if it moved by other things than samples since the last call.
    pub(super) fn moved(&mut self) -> Option<EdgeProgress> {
        std::mem::take(&mut self.has_moved).then_some(self.progress)
    }

    /// Offset of the first message of a partition in the queue.
    pub(super) fn first_offset(&self, partition: i32) -> Option<i64> {
        let of = |waiting: &&WaitingMessage| waiting.partition == partition;
        Some(self.waiting.iter().find(of)?.offset)
    }

    /// Bytes of the messages in the queue.
    pub(super) fn bytes(&self) -> usize {
        self.waiting.iter().map(|waiting| waiting.size).sum()
    }
}

/// Part and row of the sample behind the first `rows` of a change. Parts are never empty.
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

/// Whether every part has samples and columns of one length, and all models match their records.
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
