//! The history of one edge while it shares: which incarnation of its state a message is of, and
//! whether something came twice or never.
//!
//! Every opening of an edge's state is an incarnation with a random id, and numbers its changes on
//! from those before. So a number is used twice only by a state that was restored from a copy, or
//! by two copies: their incarnations begin before the change that is expected next. Within an
//! incarnation a number stands for one change, and each message tells the change that it follows.

use std::sync::Arc;

use perennial_operators::flow::{EdgeHistory, EdgeIncarnation, EdgeProgress};

use crate::link::Changes;

/// Bound on the incarnations that are remembered of an edge.
const REMEMBERED: usize = 256;

/// Where the changes of a message come from.
#[derive(Clone, Copy)]
pub(super) struct ChangesOrigin {
    since: i64,
    /// The incarnation's id; 0 if the message does not tell.
    id: u64,
    /// The first change of the incarnation.
    first: u64,
    /// The change before the message that was not shed.
    follows: Option<u64>,
}

impl ChangesOrigin {
    pub(super) fn of(changes: &Changes) -> ChangesOrigin {
        let lineage = changes.lineage;
        ChangesOrigin {
            since: changes.since,
            id: lineage.map_or(0, |lineage| lineage.incarnation),
            first: lineage.map_or(0, |lineage| lineage.first),
            follows: lineage.and_then(|lineage| lineage.follows),
        }
    }
}

/// How a message relates to the one before it.
pub(super) enum Begin {
    /// It is of the same incarnation.
    Same,
    /// It is of another one.
    Another,
    /// It is of an earlier state of the edge, or of an incarnation that is forgotten.
    Old,
}

/// The history of an edge, and whether it moved.
pub(super) struct HistoryLog {
    edge: Arc<str>,
    history: EdgeHistory,
    has_moved: bool,
}

impl HistoryLog {
    pub(super) fn new(
        edge: &str,
        history: Option<EdgeHistory>,
        progress: &EdgeProgress,
    ) -> HistoryLog {
        let mut history = history.unwrap_or_default();
        // The edge was known before it told its incarnations.
        if history.incarnations.is_empty() && *progress != EdgeProgress::default() {
            history.incarnations.push(EdgeIncarnation {
                id: 0,
                since: progress.since,
                next: progress.next,
                rows: progress.rows,
            });
        }
        HistoryLog {
            edge: edge.into(),
            history,
            has_moved: false,
        }
    }

    /// Begins a message whose first change has a number, and moves the progress to where its
    /// incarnation goes on.
    pub(super) fn begin(
        &mut self,
        origin: &ChangesOrigin,
        number: Option<u64>,
        progress: &mut EdgeProgress,
    ) -> Begin {
        let begin = self.find(origin, progress);
        if let (Some(number), Some(follows)) = (number, origin.follows)
            && !matches!(begin, Begin::Old)
            && number > progress.next
            && follows >= progress.next
        {
            let lost = follows - progress.next + 1;
            self.history.lost += lost;
            self.has_moved = true;
            tracing::warn!(
                edge = &*self.edge,
                from = progress.next,
                "changes of an edge never came: at most {lost} are lost"
            );
        }
        begin
    }

    fn find(&mut self, origin: &ChangesOrigin, progress: &mut EdgeProgress) -> Begin {
        let known = self.history.incarnations.iter();
        let mut known = known.map(|known| (known.id, known.since));
        if known.clone().next_back() == Some((origin.id, origin.since)) {
            return Begin::Same;
        }
        if let Some(place) = known.position(|known| known == (origin.id, origin.since)) {
            self.leave(progress);
            let found = self.history.incarnations.remove(place);
            self.enter(found, progress);
            return Begin::Another;
        }
        let since = progress.since;
        let ids = self.history.incarnations.iter();
        let is_of_other_state = origin.id != 0 && ids.clone().any(|known| known.id == origin.id);
        let is_forgotten = origin.since == since && origin.first < self.history.forgotten;
        if is_of_other_state || is_forgotten || origin.id == 0 && origin.since < since {
            return Begin::Old;
        }
        self.leave(progress);
        let same_state = self.history.incarnations.iter();
        let same_state = same_state.filter(|known| known.since == origin.since);
        let expected = same_state.map(|known| known.next).max();
        let next = match expected {
            Some(expected) if origin.first >= expected => expected,
            Some(expected) => {
                self.notice_fork(origin.first, expected, progress);
                origin.first
            }
            None if self.history.incarnations.is_empty() => 0,
            None => {
                self.notice_renewal(progress);
                origin.first
            }
        };
        let incarnation = EdgeIncarnation {
            id: origin.id,
            since: origin.since,
            next,
            rows: 0,
        };
        self.enter(incarnation, progress);
        Begin::Another
    }

    /// Notes where the current incarnation stands.
    fn leave(&mut self, progress: &EdgeProgress) {
        if let Some(current) = self.history.incarnations.last_mut() {
            (current.next, current.rows) = (progress.next, progress.rows);
        }
    }

    /// Makes an incarnation the current one.
    fn enter(&mut self, incarnation: EdgeIncarnation, progress: &mut EdgeProgress) {
        let incarnations = &mut self.history.incarnations;
        incarnations.push(incarnation);
        if incarnations.len() > REMEMBERED {
            let forgotten = incarnations.remove(0);
            if forgotten.since == incarnation.since {
                self.history.forgotten = self.history.forgotten.max(forgotten.next);
            }
        }
        (progress.since, progress.next) = (incarnation.since, incarnation.next);
        progress.rows = incarnation.rows;
        self.has_moved = true;
    }

    fn notice_fork(&mut self, first: u64, expected: u64, progress: &EdgeProgress) {
        self.history.forks += 1;
        self.history.until = self.history.until.max(progress.time);
        let twice = expected - first;
        tracing::warn!(
            edge = &*self.edge,
            first,
            "an edge numbers {twice} changes anew: its state was restored from a copy, or is in use \
             twice. They are taken in, and samples in them may be there twice"
        );
    }

    fn notice_renewal(&mut self, progress: &EdgeProgress) {
        self.history.renewals += 1;
        self.history.until = self.history.until.max(progress.time);
        self.history.forgotten = 0;
        tracing::warn!(
            edge = &*self.edge,
            "an edge comes with a new state: samples that it shares again may be there twice"
        );
    }

    /// Counts a sample with this event time if it may have been taken in before.
    pub(super) fn count_sample(&mut self, time: i64) {
        let may_repeat = self.history.forks + self.history.renewals > 0;
        if may_repeat && time <= self.history.until {
            self.history.repeated += 1;
            self.has_moved = true;
        }
    }

    /// Counts something that the edge may not share, and logs the first.
    pub(super) fn count_refused(&mut self, what: &str) {
        if self.history.refused == 0 {
            let edge = &*self.edge;
            tracing::warn!(edge, "an edge may not share {what}: it is a dead letter");
        }
        self.history.refused += 1;
        self.has_moved = true;
    }

    /// The history, if it moved since the last call.
    pub(super) fn take_moved(&mut self) -> Option<EdgeHistory> {
        std::mem::take(&mut self.has_moved).then(|| self.history.clone())
    }

    /// The history.
    pub(super) fn history(&self) -> &EdgeHistory {
        &self.history
    }
}
