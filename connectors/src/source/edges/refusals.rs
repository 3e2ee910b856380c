//! Refused messages: each is a dead letter, once, and what is wrong is logged once.
//!
//! A restart reads again from the first message that waits. The refused messages behind it are
//! committed, so that a restart leaves them out.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::{Discriminant, discriminant};
use std::sync::Arc;

use perennial_operators::TopicPartition;
use perennial_operators::flow::{DeadLetter, MessageOffset, RefusedMessages};
use rustc_hash::FxHashSet;

use super::parked::{GONE, MessagePlace};
use crate::link::LinkError;

/// Bound on the warnings.
const MOST: usize = 1000;
/// Number of refused messages behind one that waits from which on it is no use to wait: anybody who
/// may write to the topic can send any number of them.
const MOST_BEHIND: usize = 1_000_000;

/// Dead letters of refused messages.
pub(super) struct Refusals {
    topic: Arc<str>,
    letters: Vec<DeadLetter>,
    /// Names of edges, and what was wrong with their messages: anybody who may write to the topic
    /// can send any number of them.
    told: FxHashSet<(String, Discriminant<LinkError>)>,
    /// Offsets of refused messages that a restart reads again, by partition.
    behind: BTreeMap<i32, BTreeSet<i64>>,
    /// Refused messages that are not committed yet: partition and offset.
    added: Vec<(i32, i64)>,
    /// Refused messages that a restart reads no more: partition and offset.
    passed: Vec<(i32, i64)>,
}

impl Refusals {
    /// Leaves out the messages that an earlier run has refused.
    pub(super) fn new(topic: Arc<str>, refused: &[MessageOffset]) -> Refusals {
        let mut behind: BTreeMap<i32, BTreeSet<i64>> = BTreeMap::new();
        for message in refused {
            let TopicPartition {
                topic: of,
                partition,
            } = &message.partition;
            if *of != topic {
                continue;
            }
            let offsets = behind.entry(*partition).or_default();
            offsets.insert(message.offset);
        }
        Refusals {
            topic,
            behind,
            added: Vec::new(),
            passed: Vec::new(),
            letters: Vec::new(),
            told: FxHashSet::default(),
        }
    }

    /// Turns a refused message into a dead letter.
    pub(super) fn add_message(&mut self, refused: &LinkError, place: &MessagePlace) {
        self.add_part(refused, place);
        if place.offset != GONE {
            let offsets = self.behind.entry(place.partition).or_default();
            offsets.insert(place.offset);
            self.added.push((place.partition, place.offset));
        }
    }

    /// Turns a message with a refused part into a dead letter.
    pub(super) fn add_part(&mut self, refused: &LinkError, place: &MessagePlace) {
        let topic = &self.topic;
        let (partition, offset) = (place.partition, place.offset);
        let is_new = self.told.len() < MOST
            && self
                .told
                .insert((place.edge.clone(), discriminant(refused)));
        if is_new {
            tracing::warn!(
                %topic,
                partition,
                offset,
                "refused a message of an edge, or a part of it; more of the kind are only in the dead \
                 letters: {refused}"
            );
            if self.told.len() == MOST {
                tracing::warn!(%topic, "more refused messages are only in the dead letters");
            }
        }
        self.letters.push(DeadLetter {
            source: format!("{topic}[{partition}]"),
            record: offset.max(0) as u64,
            reason: refused.to_string(),
            content: String::from_utf8_lossy(&place.excerpt).into_owned(),
            message: None,
        });
    }

    /// Adds a dead letter that is not of a whole message.
    pub(super) fn push(&mut self, letter: DeadLetter) {
        self.letters.push(letter);
    }

    /// Whether a message was refused before.
    pub(super) fn has(&self, partition: i32, offset: i64) -> bool {
        let offsets = self.behind.get(&partition);
        offsets.is_some_and(|offsets| offsets.contains(&offset))
    }

    /// A partition with too many refused messages behind one that waits.
    pub(super) fn full_partition(&self) -> Option<i32> {
        let mut partitions = self.behind.iter();
        let full = partitions.find(|(_, offsets)| offsets.len() >= MOST_BEHIND);
        full.map(|(partition, _)| *partition)
    }

    /// Notes that a restart resumes at an offset of a partition.
    pub(super) fn resume_at(&mut self, partition: i32, offset: i64) {
        if let Some(offsets) = self.behind.get_mut(&partition) {
            let later = offsets.split_off(&offset);
            let passed = std::mem::replace(offsets, later).into_iter();
            self.passed.extend(passed.map(|offset| (partition, offset)));
        }
    }

    /// Notes that the topic has none of the refused messages of a partition any more.
    pub(super) fn forget_offsets(&mut self, partition: i32) {
        self.resume_at(partition, i64::MAX);
    }

    /// Ends an epoch: what a restart has to leave out from now on, and what no more.
    pub(super) fn close(&mut self) -> RefusedMessages {
        let added: BTreeSet<(i32, i64)> = std::mem::take(&mut self.added).into_iter().collect();
        let passed: BTreeSet<(i32, i64)> = std::mem::take(&mut self.passed).into_iter().collect();
        let message = |&(partition, offset): &(i32, i64)| MessageOffset {
            partition: TopicPartition {
                topic: self.topic.clone(),
                partition,
            },
            offset,
        };
        RefusedMessages {
            // Most are passed in the epoch in which they are refused.
            added: added.difference(&passed).map(message).collect(),
            passed: passed.difference(&added).map(message).collect(),
        }
    }

    /// Takes the dead letters since the last call.
    pub(super) fn take(&mut self) -> Vec<DeadLetter> {
        std::mem::take(&mut self.letters)
    }
}
