//! Matching of labels on a topic of their own with their samples.
//!
//! The reader of a process has the ids of all its samples, so it finds the sample of each label.
//! The dataflow then gets the sample's number, and no worker needs the ids.

use std::collections::VecDeque;

use perennial_operators::flow::{DeadLetter, EarlyLabel, EpochHeader, WaitingSample};
use perennial_operators::label::Delay;
use perennial_operators::{OwnedRecord, id_number};
use rustc_hash::FxHashMap;

/// Bound on labels that wait for their samples; beyond it the oldest are dropped.
const MOST_EARLY: usize = 100_000;
/// Bound on the bytes of their messages.
const MOST_EARLY_BYTES: usize = 64 << 20;
/// Entries that wait no more and are not worth a search for them.
const LEAST_STALE: usize = 1024;

/// Samples that wait for labels, and labels that wait for samples.
pub(super) struct LabelMatcher {
    /// How long samples and labels wait.
    wait: Delay,
    /// Waiting samples: number of the id → sequence number.
    samples: FxHashMap<u64, u64>,
    /// The waiting samples, oldest first. It may contain samples that wait no more.
    order: VecDeque<WaitingSample>,
    /// Labels without a sample so far, by the number of the id.
    early: FxHashMap<u64, EarlyLabel>,
    /// Bytes of their messages.
    early_bytes: usize,
    /// Numbers of their ids, oldest first, each with the end and the clock of the label's epoch.
    early_order: VecDeque<(u64, u64, i64)>,
    /// Changes of the current epoch.
    epoch: EpochLabels,
}

/// Changes of the current epoch.
#[derive(Default)]
struct EpochLabels {
    labels: Vec<(u64, f32)>,
    samples: Vec<(u64, u64)>,
    early: Vec<u64>,
    settled: Vec<u64>,
}

/// Labels of one epoch, matched and not.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LabelUpdate {
    /// Matched labels: sequence numbers of the samples, ascending, and labels.
    pub labels: Vec<(u64, f32)>,
    /// New labels that wait for their samples.
    pub early: Vec<EarlyLabel>,
    /// Numbers of the ids of earlier labels that wait no more.
    pub settled: Vec<u64>,
    /// Labels that no sample came for.
    pub dead_letters: Vec<DeadLetter>,
}

impl LabelMatcher {
    /// A matcher with the samples and labels that waited at the last commit, oldest first.
    pub(super) fn new(
        wait: Delay,
        waiting: Vec<WaitingSample>,
        mut early: Vec<EarlyLabel>,
    ) -> LabelMatcher {
        early.sort_by_key(|label| (label.end, label.clock, label.id));
        let samples = waiting.iter().map(|sample| (sample.id, sample.sequence));
        LabelMatcher {
            wait,
            samples: samples.collect(),
            order: waiting.into(),
            early_order: early
                .iter()
                .map(|label| (label.id, label.end, label.clock))
                .collect(),
            early_bytes: early.iter().map(|label| label.message.size()).sum(),
            early: early.into_iter().map(|label| (label.id, label)).collect(),
            epoch: EpochLabels::default(),
        }
    }

    /// Adds a sample, whose label may wait for it.
    pub(super) fn sample(&mut self, sequence: u64, id: &str) {
        let id = id_number(id);
        match self.early.remove(&id) {
            Some(label) => {
                self.early_bytes -= label.message.size();
                self.epoch.labels.push((sequence, label.label));
                self.leave(id);
            }
            None => {
                self.samples.insert(id, sequence);
                self.epoch.samples.push((id, sequence));
            }
        }
    }

    /// Adds a label for the sample with the id `id`. `message` is kept if the label has to wait.
    ///
    /// # Errors
    /// A label for the id waits already: the reason.
    pub(super) fn label(
        &mut self,
        id: &str,
        label: f32,
        message: impl FnOnce() -> OwnedRecord,
    ) -> Result<(), String> {
        let number = id_number(id);
        if let Some(sequence) = self.samples.remove(&number) {
            self.epoch.labels.push((sequence, label));
            return Ok(());
        }
        if self.early.contains_key(&number) {
            return Err(format!(
                "a label for the id {id:?} came before, and its sample has not come yet"
            ));
        }
        let label = EarlyLabel {
            id: number,
            label,
            end: 0,
            clock: 0,
            message: message(),
        };
        self.early_bytes += label.message.size();
        self.early.insert(number, label);
        self.epoch.early.push(number);
        Ok(())
    }

    /// Whether any sample waits for its label.
    pub(super) fn lacks_labels(&self) -> bool {
        !self.samples.is_empty()
    }

    /// Number of labels that wait for their samples.
    pub(super) fn early_labels(&self) -> usize {
        self.early.len()
    }

    /// Records that a label waits no more. A label of the current epoch was not reported as
    /// waiting.
    fn leave(&mut self, id: u64) {
        match self.epoch.early.iter().position(|fresh| *fresh == id) {
            Some(place) => _ = self.epoch.early.swap_remove(place),
            None => self.epoch.settled.push(id),
        }
    }

    /// Closes an epoch, and drops what has waited for too long by the rule that the dataflow has
    /// for pending samples.
    pub(super) fn close(&mut self, header: &EpochHeader) -> LabelUpdate {
        for (id, sequence) in std::mem::take(&mut self.epoch.samples) {
            self.order.push_back(WaitingSample {
                id,
                sequence,
                clock: header.clock,
            });
        }
        while let Some(oldest) = self.order.front().copied() {
            if !self.wait.is_over(oldest.sequence, oldest.clock, header) {
                break;
            }
            self.order.pop_front();
            if self.samples.get(&oldest.id) == Some(&oldest.sequence) {
                self.samples.remove(&oldest.id);
            }
        }
        self.drop_stale();
        let dead_letters = self.give_up(header);
        let mut fresh = std::mem::take(&mut self.epoch);
        fresh.early.sort_unstable();
        let mut early = Vec::new();
        for id in fresh.early {
            if let Some(label) = self.early.get_mut(&id) {
                (label.end, label.clock) = (header.end, header.clock);
                self.early_order.push_back((id, header.end, header.clock));
                early.push(label.clone());
            }
        }
        fresh.labels.sort_by_key(|(sequence, _)| *sequence);
        LabelUpdate {
            labels: fresh.labels,
            early,
            settled: fresh.settled,
            dead_letters,
        }
    }

    /// Drops entries of the two orders that wait no more, once they are the most. Otherwise one
    /// sample without a label would keep all later ones in memory as long as it waits.
    fn drop_stale(&mut self) {
        if self.order.len() > 2 * self.samples.len() + LEAST_STALE {
            let samples = &self.samples;
            self.order
                .retain(|sample| samples.get(&sample.id) == Some(&sample.sequence));
        }
        if self.early_order.len() > 2 * self.early.len() + LEAST_STALE {
            let early = &self.early;
            self.early_order.retain(|(id, end, clock)| {
                let label = early.get(id);
                label.is_some_and(|label| (label.end, label.clock) == (*end, *clock))
            });
        }
    }

    /// Drops labels whose samples have not come in time, or beyond [`MOST_EARLY`].
    fn give_up(&mut self, header: &EpochHeader) -> Vec<DeadLetter> {
        let mut dead_letters = Vec::new();
        while let Some((id, end, clock)) = self.early_order.front().copied() {
            // The entry may be stale: its label matched, and a later label may have the same id.
            let waits = |label: &&EarlyLabel| (label.end, label.clock) == (end, clock);
            if self.early.get(&id).filter(waits).is_some() {
                let is_over = self.wait.is_over(end, clock, header);
                let is_full = self.early.len() > MOST_EARLY || self.early_bytes > MOST_EARLY_BYTES;
                if !is_over && !is_full {
                    break;
                }
                if let Some(label) = self.early.remove(&id) {
                    self.early_bytes -= label.message.size();
                    self.leave(id);
                    let reason = if is_over {
                        "no sample with the id of this label was waiting, and none came"
                    } else {
                        "too many labels wait for samples that have not come"
                    };
                    dead_letters.push(DeadLetter::of_record(label.message, reason.to_string()));
                }
            }
            self.early_order.pop_front();
        }
        dead_letters
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use perennial_operators::flow::Phase;
    use perennial_operators::{Epoch, TopicPartition};

    use super::*;

    fn header(epoch: u64, end: u64, clock: i64) -> EpochHeader {
        EpochHeader {
            epoch: Epoch(epoch),
            end,
            clock,
            phase: Phase::Live,
        }
    }

    fn message(offset: i64) -> OwnedRecord {
        OwnedRecord {
            place: TopicPartition {
                topic: Arc::from("labels"),
                partition: 0,
            },
            offset,
            timestamp: 0,
            key: None,
            headers: None,
            value: Some(vec![7]),
        }
    }

    fn matcher(wait: Delay) -> LabelMatcher {
        LabelMatcher::new(wait, Vec::new(), Vec::new())
    }

    #[test]
    fn labels_find_samples_that_came_before_or_after() {
        let mut matcher = matcher(Delay::Records(100));
        matcher.sample(0, "a");
        matcher.sample(1, "b");
        matcher.label("b", 2.0, || message(0)).unwrap();
        matcher.label("c", 1.0, || message(1)).unwrap();
        matcher.label("d", 0.0, || message(2)).unwrap();
        matcher.sample(2, "d");
        let settled = matcher.close(&header(0, 3, 0));
        assert_eq!(settled.labels, [(1, 2.0), (2, 0.0)]);
        assert_eq!(settled.early.len(), 1);
        assert_eq!(
            (settled.early[0].id, settled.early[0].end),
            (id_number("c"), 3)
        );
        assert!(settled.settled.is_empty());
        matcher.sample(3, "c");
        matcher.label("a", 1.0, || message(3)).unwrap();
        let settled = matcher.close(&header(1, 4, 0));
        assert_eq!(settled.labels, [(0, 1.0), (3, 1.0)]);
        assert_eq!(settled.settled, [id_number("c")]);
        assert!(settled.early.is_empty() && settled.dead_letters.is_empty());
    }

    #[test]
    fn what_waits_too_long_is_dropped() {
        for wait in [Delay::Records(10), Delay::Time(10)] {
            let mut matcher = matcher(wait);
            matcher.sample(0, "a");
            matcher.label("x", 1.0, || message(0)).unwrap();
            assert!(matcher.label("x", 1.0, || message(1)).is_err());
            assert!(matcher.close(&header(0, 1, 1)).dead_letters.is_empty());
            assert!(matcher.close(&header(1, 10, 10)).dead_letters.is_empty());
            let settled = matcher.close(&header(2, 12, 12));
            assert_eq!(settled.settled, [id_number("x")]);
            let letter = &settled.dead_letters[0];
            assert!(letter.reason.contains("none came"), "{letter:?}");
            assert_eq!(letter.message.as_ref().unwrap().value, Some(vec![7]));
            // The sample waits no more either, so a label for it does not match.
            matcher.label("a", 1.0, || message(2)).unwrap();
            assert!(matcher.close(&header(3, 13, 13)).labels.is_empty());
        }
    }

    #[test]
    fn labels_without_samples_are_bounded_in_bytes() {
        let mut matcher = matcher(Delay::Records(1_000_000));
        let large = |offset| OwnedRecord {
            headers: Some(vec![0; 1 << 20]),
            ..message(offset)
        };
        let mut dropped = 0;
        for epoch in 0..100 {
            let id = epoch.to_string();
            matcher.label(&id, 1.0, || large(epoch as i64)).unwrap();
            let closed = matcher.close(&header(epoch, 1, 0));
            for letter in &closed.dead_letters {
                assert!(letter.reason.starts_with("too many labels"), "{letter:?}");
                assert_eq!(letter.record, dropped);
                dropped += 1;
            }
        }
        assert_eq!(dropped, 37);
        assert!(matcher.early_bytes <= MOST_EARLY_BYTES);
    }

    #[test]
    fn one_waiting_sample_does_not_keep_the_others() {
        let mut matcher = matcher(Delay::Time(1_000_000));
        matcher.sample(0, "alone");
        matcher.label("early", 1.0, || message(0)).unwrap();
        for epoch in 0..5_000 {
            let id = epoch.to_string();
            let next = format!("next {id}");
            matcher.sample(epoch + 1, &id);
            matcher.label(&id, 1.0, || message(1)).unwrap();
            matcher.label(&next, 1.0, || message(1)).unwrap();
            let closed = matcher.close(&header(epoch, epoch + 2, epoch as i64));
            // Its own label, and the one that came an epoch before its sample.
            assert_eq!(closed.labels.len(), 1 + usize::from(epoch > 0));
            matcher.sample(10_000 + epoch, &next);
        }
        assert!(
            matcher.order.len() < 2 * LEAST_STALE,
            "{}",
            matcher.order.len()
        );
        assert!(matcher.early_order.len() < 2 * LEAST_STALE);
        matcher.label("alone", 1.0, || message(2)).unwrap();
        matcher.sample(20_000, "early");
        let settled = matcher.close(&header(5_000, 20_001, 5_000));
        assert!(settled.labels.contains(&(0, 1.0)) && settled.labels.contains(&(20_000, 1.0)));
    }

    #[test]
    fn a_matcher_resumes_with_what_waited() {
        let wait = Delay::Records(100);
        let mut first = matcher(wait);
        first.sample(0, "a");
        first.label("b", 1.0, || message(0)).unwrap();
        let early = first.close(&header(0, 1, 5)).early;
        let waiting = WaitingSample {
            id: id_number("a"),
            sequence: 0,
            clock: 5,
        };
        let mut second = LabelMatcher::new(wait, vec![waiting], early);
        second.label("a", 2.0, || message(1)).unwrap();
        second.sample(1, "b");
        let settled = second.close(&header(1, 2, 6));
        assert_eq!(settled.labels, [(0, 2.0), (1, 1.0)]);
        assert_eq!(settled.settled, [id_number("b")]);
    }
}
