//! Messages of known edges under keys that are unknown here, or valid no more: they wait until the
//! config has the key, and hold up nothing.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::parked::{GONE, MessagePlace};
use super::rights::{KnownEdges, SignedChanges};
use crate::link::LinkError;

/// How long a message waits for its key: shorter than topics usually keep messages, since a restart
/// reads from the first message that waits.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);
/// Bound in bytes on the messages that wait.
const MOST: usize = 64 << 20;

/// A message that waits for its key.
struct SealedMessage {
    place: MessagePlace,
    value: Vec<u8>,
    refused: LinkError,
    came: Instant,
}

/// Messages that wait for their keys, by edge.
#[derive(Default)]
pub(super) struct SealedMessages {
    edges: BTreeMap<String, VecDeque<SealedMessage>>,
    bytes: usize,
}

/// A message that waits no more, and what became of it.
pub(super) type Unsealed = (MessagePlace, Result<SignedChanges, LinkError>);

impl SealedMessages {
    /// Keeps a message that was refused for its key.
    pub(super) fn add(&mut self, place: MessagePlace, value: Vec<u8>, refused: LinkError) {
        let edge = place.edge.clone();
        let queue = self.edges.entry(edge).or_default();
        if queue.is_empty() {
            tracing::warn!(
                edge = place.edge,
                "a message of an edge waits for its key, for a day at most: {refused}. If it is good, \
                 give the key in link.edges and send SIGHUP"
            );
        }
        self.bytes += value.len();
        queue.push_back(SealedMessage {
            place,
            value,
            refused,
            came: Instant::now(),
        });
    }

    /// Opens the messages whose keys are known by now. Those that can never be opened come back as
    /// refused.
    pub(super) fn open(&mut self, known: &KnownEdges) -> Vec<Unsealed> {
        let mut opened = Vec::new();
        for (edge, queue) in std::mem::take(&mut self.edges) {
            let mut left = VecDeque::new();
            for message in queue {
                let result = known.open(edge.as_bytes(), Some(&message.value));
                let waits = |refused: &LinkError| {
                    known.may_be_good(refused, edge.as_bytes(), &message.value)
                };
                if result.as_ref().is_err_and(waits) {
                    left.push_back(message);
                } else {
                    self.bytes -= message.value.len();
                    opened.push((message.place, result));
                }
            }
            if !left.is_empty() {
                self.edges.insert(edge, left);
            }
        }
        opened
    }

    /// Gives up a message that has waited too long, or for which there is no room: behind those of
    /// the partition `full`, or in memory. Any message if `is_over`.
    pub(super) fn give_up(&mut self, is_over: bool, full: Option<i32>) -> Option<Unsealed> {
        let (edge, at) = full
            .and_then(|full| self.oldest(|message| message.place.partition == full))
            .or_else(|| {
                let must = is_over || self.bytes > MOST;
                self.oldest(|message| must || message.came.elapsed() > PATIENCE)
            })?;
        let queue = self.edges.get_mut(&edge)?;
        let message = queue.remove(at)?;
        if queue.is_empty() {
            self.edges.remove(&edge);
        }
        self.bytes -= message.value.len();
        Some((message.place, Err(message.refused)))
    }

    /// The oldest message of those that are meant, by its edge and its place in the queue.
    fn oldest(&self, is_meant: impl Fn(&SealedMessage) -> bool) -> Option<(String, usize)> {
        let firsts = self.edges.iter().filter_map(|(edge, queue)| {
            let at = queue.iter().position(&is_meant)?;
            Some((queue.get(at)?.came, edge, at))
        });
        let (_, edge, at) = firsts.min_by_key(|(came, ..)| *came)?;
        Some((edge.clone(), at))
    }

    /// Offset of the first waiting message of a partition.
    pub(super) fn first_offset(&self, partition: i32) -> Option<i64> {
        let messages = self.edges.values().flatten();
        let of = messages.filter(|sealed| sealed.place.partition == partition);
        let offsets = of.map(|sealed| sealed.place.offset);
        offsets.filter(|offset| *offset != GONE).min()
    }

    /// Notes that the topic has none of the waiting messages of a partition any more.
    pub(super) fn forget_offsets(&mut self, partition: i32) {
        let places = self.edges.values_mut().flatten();
        let places = places.map(|sealed| &mut sealed.place);
        for place in places.filter(|place| place.partition == partition) {
            place.offset = GONE;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_given_up_where_there_is_no_room_behind_them() {
        let mut sealed = SealedMessages::default();
        for (offset, (edge, partition)) in [("a", 0), ("a", 1), ("b", 0), ("b", 1)]
            .into_iter()
            .enumerate()
        {
            let place = MessagePlace {
                edge: edge.to_string(),
                partition,
                offset: offset as i64,
                ..MessagePlace::default()
            };
            sealed.add(place, vec![0], LinkError::Torn);
        }
        let mut offset = |is_over, full| {
            let given_up = sealed.give_up(is_over, full);
            given_up.map(|(place, _)| place.offset)
        };
        assert_eq!(offset(false, None), None);
        // The oldest of its partition, although others have come before it.
        assert_eq!(offset(false, Some(1)), Some(1));
        assert_eq!(offset(false, Some(1)), Some(3));
        assert_eq!(offset(false, Some(1)), None);
        assert_eq!(offset(true, None), Some(0));
        assert_eq!(offset(true, None), Some(2));
        assert_eq!(offset(true, None), None);
    }
}
