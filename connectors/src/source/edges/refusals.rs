//! Refused messages: each is a dead letter, and what is wrong is logged once.

use std::mem::{Discriminant, discriminant};
use std::sync::Arc;

use perennial_operators::flow::DeadLetter;
use rustc_hash::FxHashSet;

use super::parked::MessagePlace;
use crate::link::LinkError;

/// Bound on the warnings.
const MOST: usize = 1000;

/// Dead letters of refused messages.
pub(super) struct Refusals {
    topic: Arc<str>,
    letters: Vec<DeadLetter>,
    /// Names of edges, and what was wrong with their messages: anybody who may write to the topic
    /// can send any number of them.
    told: FxHashSet<(String, Discriminant<LinkError>)>,
}

impl Refusals {
    pub(super) fn new(topic: Arc<str>) -> Refusals {
        Refusals {
            topic,
            letters: Vec::new(),
            told: FxHashSet::default(),
        }
    }

    /// Turns a refused message, or a message with a refused part, into a dead letter.
    pub(super) fn add(&mut self, refused: &LinkError, place: &MessagePlace) {
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

    /// Takes the dead letters since the last call.
    pub(super) fn take(&mut self) -> Vec<DeadLetter> {
        std::mem::take(&mut self.letters)
    }
}
