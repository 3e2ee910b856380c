//! The queue of one edge's changes.

use std::collections::VecDeque;

use ed25519_dalek::VerifyingKey;
use perennial_operators::flow::{EdgeHistory, EdgeProgress};
use perennial_operators::{SharedSamples, SharedStatistics};

use super::history::{Begin, ChangesOrigin, HistoryLog};
use super::parked::{GONE, MessageSize};
use super::rights::{EdgeRights, SignedChanges};
use crate::link::{Change, Donation, LinkError, now};

/// Partition and offset of a message.
pub(super) type TopicOffset = (i32, i64);

/// A message in the queue.
struct WaitingMessage {
    changes: VecDeque<(u64, Change)>,
    /// Refused parts of its changes: number of the change, and why.
    refused_parts: Vec<(u64, LinkError)>,
    place: TopicOffset,
    size: MessageSize,
    origin: ChangesOrigin,
    sent: i64,
    shed: u64,
    signer: VerifyingKey,
    /// Whether its changes were compared with the known ones.
    has_begun: bool,
}

/// Changes of one edge in order, and its progress through them.
pub(super) struct Queue {
    waiting: VecDeque<WaitingMessage>,
    /// Progress of the edge.
    progress: EdgeProgress,
    history: HistoryLog,
    /// The part of the first change with the next sample, and the row in it. Both follow from the
    /// progress.
    place: (usize, usize),
    has_moved: bool,
}

/// What lies between two samples of an edge.
#[derive(Default)]
pub(super) struct Between {
    /// Statistics and models, each with the place of its message.
    pub reported: Vec<(TopicOffset, SharedStatistics)>,
    pub donated: Vec<(TopicOffset, Donation)>,
    /// Messages that wait no more: place and size.
    pub done: Vec<(TopicOffset, MessageSize)>,
    /// Refused messages.
    pub refused: Vec<(TopicOffset, LinkError)>,
    /// Refused parts of messages.
    pub refused_parts: Vec<(TopicOffset, LinkError)>,
}

impl Queue {
    pub(super) fn new(edge: &str, progress: EdgeProgress, history: Option<EdgeHistory>) -> Queue {
        Queue {
            waiting: VecDeque::new(),
            history: HistoryLog::new(edge, history, &progress),
            progress,
            place: (0, 0),
            has_moved: false,
        }
    }

    /// Adds a message.
    ///
    /// # Errors
    /// Its columns do not match.
    pub(super) fn push(
        &mut self,
        message: SignedChanges,
        place: TopicOffset,
        size: MessageSize,
    ) -> Result<(), LinkError> {
        let SignedChanges {
            changes,
            refused,
            signer,
        } = message;
        if !changes.changes.iter().all(|(_, change)| is_sound(change)) {
            return Err(LinkError::Torn);
        }
        self.waiting.push_back(WaitingMessage {
            origin: ChangesOrigin::of(&changes),
            // A wrong clock of an edge must not make its changes newer than now.
            sent: changes.sent.min(now()),
            shed: changes.shed,
            changes: changes.changes.into(),
            refused_parts: refused,
            place,
            size,
            signer,
            has_begun: false,
        });
        Ok(())
    }

    /// Notes that the topic has none of the waiting messages of a partition any more.
    pub(super) fn forget_offsets(&mut self, partition: i32) {
        let waiting = self.waiting.iter_mut().map(|message| &mut message.place);
        for (_, offset) in waiting.filter(|(of, _)| *of == partition) {
            *offset = GONE;
        }
    }

    /// Moves to the next sample, and returns what is before it. An edge sends a message again if it
    /// does not learn that it has arrived: known changes are left out.
    pub(super) fn advance(&mut self) -> Between {
        let mut between = Between::default();
        while let Some(first) = self.waiting.front_mut() {
            if !std::mem::replace(&mut first.has_begun, true) {
                let number = first.changes.front().map(|(number, _)| *number);
                match self
                    .history
                    .begin(&first.origin, number, &mut self.progress)
                {
                    Begin::Same => {}
                    Begin::Another => (self.place, self.has_moved) = ((0, 0), true),
                    Begin::Old => {
                        first.changes.clear();
                        between.refused.push((first.place, LinkError::Old));
                    }
                }
                let next = self.progress.next;
                while first
                    .changes
                    .front()
                    .is_some_and(|(number, _)| *number < next)
                {
                    first.changes.pop_front();
                }
                // What was taken in before counts no bytes.
                if first.changes.is_empty() {
                    between.done.push((first.place, first.size));
                    self.waiting.pop_front();
                    continue;
                }
            }
            let Some((number, change)) = first.changes.front_mut() else {
                let (size, sent, shed) = (first.size, first.sent, first.shed);
                self.progress.bytes += size.own as u64;
                self.progress.sent = self.progress.sent.max(sent);
                self.progress.shed = shed;
                between.done.push((first.place, size));
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
            let place = first.place;
            let reported = change.statistics.drain(..).map(|it| (place, it));
            between.reported.extend(reported);
            let donated = change.models.drain(..).map(|it| (place, it));
            between.donated.extend(donated);
            // Told as the change is passed, so that a restart tells nothing twice.
            let refused = first.refused_parts.extract_if(.., |(of, _)| of == number);
            let refused = refused.map(|(_, reason)| (place, reason));
            between.refused_parts.extend(refused);
            (self.progress.next, self.progress.rows) = (*number + 1, 0);
            self.place = (0, 0);
            first.changes.pop_front();
            self.has_moved = true;
        }
        between
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
        let samples = change.samples.get(part)?;
        self.place = if row + 1 < samples.len() {
            (part, row + 1)
        } else {
            (part + 1, 0)
        };
        self.progress.rows += 1;
        self.progress.samples += 1;
        self.progress.time = time;
        self.has_moved = true;
        Some((samples, row, first.place.1))
    }

    /// Counts a sample that was taken in, with its event time.
    pub(super) fn count_sample(&mut self, time: i64) {
        self.history.count_sample(time);
    }

    /// Removes the messages that the rights no longer accept: place and size of each.
    pub(super) fn revoke(&mut self, rights: &EdgeRights) -> Vec<(TopicOffset, MessageSize)> {
        let mut revoked = Vec::new();
        self.waiting.retain(|waiting| {
            let is_accepted = rights.accept(&waiting.signer, waiting.sent);
            if !is_accepted {
                revoked.push((waiting.place, waiting.size));
            }
            is_accepted
        });
        if !revoked.is_empty() {
            self.place = (0, 0);
        }
        revoked
    }

    /// Counts something that the edge may not share.
    pub(super) fn count_refused(&mut self, what: &str) {
        self.history.count_refused(what);
    }

    /// Progress of the edge.
    pub(super) fn progress(&self) -> EdgeProgress {
        self.progress
    }

    /// Whether the progress moved since the last call of [`Queue::close`].
    pub(super) fn has_moved(&self) -> bool {
        self.has_moved
    }

    /// Ends an epoch: progress and history of the edge, if they moved.
    pub(super) fn close(&mut self) -> (Option<EdgeProgress>, Option<EdgeHistory>) {
        let has_moved = std::mem::take(&mut self.has_moved);
        (
            has_moved.then_some(self.progress),
            self.history.take_moved(),
        )
    }

    /// The history of the edge.
    pub(super) fn history(&self) -> &EdgeHistory {
        self.history.history()
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
