//! What the knowledge base knows of the link: edges and their histories in the cloud, incarnations
//! at an edge, and the revisions that the cloud publishes.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use perennial_operators::flow::{EdgeHistory, EdgeProgress};
use rocksdb::{Direction, IteratorMode, WriteBatch};

use super::layout::{Family, META_INCARNATIONS, META_REVISED, number_key, read_edge, read_number};
use super::records::{Incarnation, SharedRecord};
use super::{KnowledgeBase, KnowledgeError, View};

impl KnowledgeBase {
    /// Random id of this opening of the knowledge base, not 0.
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// The time from which published revisions are numbered, microseconds since 1970: when the
    /// knowledge base was created, or when it was found to be a restored copy.
    pub fn revised(&self) -> i64 {
        self.revised.load(Ordering::SeqCst).max(self.since())
    }

    /// Numbers published revisions anew from a time on, so that they are later than any before.
    pub fn renew_revisions(&self, revised: i64) -> Result<(), KnowledgeError> {
        let mut batch = WriteBatch::default();
        self.put(&mut batch, Family::Meta, META_REVISED, &revised)?;
        self.write(batch)?;
        self.revised.store(revised, Ordering::SeqCst);
        Ok(())
    }
}

impl View<'_> {
    /// Progress through the changes of each edge.
    pub fn edges(&self) -> Result<BTreeMap<String, EdgeProgress>, KnowledgeError> {
        self.of_edges(false)
    }

    /// History of each edge that has one.
    pub fn histories(&self) -> Result<BTreeMap<String, EdgeHistory>, KnowledgeError> {
        self.of_edges(true)
    }

    fn of_edges<T: serde::de::DeserializeOwned>(
        &self,
        histories: bool,
    ) -> Result<BTreeMap<String, T>, KnowledgeError> {
        let mut found = BTreeMap::new();
        self.each(Family::Edges, &[], |key, value| {
            let (edge, is_history) = read_edge(key).ok_or_else(|| self.bad_key(Family::Edges))?;
            if is_history == histories {
                found.insert(edge, self.kb.decode(value)?);
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// The incarnations that made the changes in the outbox, oldest first.
    pub fn incarnations(&self) -> Result<Vec<Incarnation>, KnowledgeError> {
        let found = self.get(Family::Meta, META_INCARNATIONS)?;
        Ok(found.unwrap_or_default())
    }

    /// Number of the last change before the number `before` that was not shed, and is not in
    /// `refused` either.
    pub fn shared_before(
        &self,
        before: u64,
        refused: impl Fn(u64) -> bool,
    ) -> Result<Option<u64>, KnowledgeError> {
        let Some(last) = before.checked_sub(1) else {
            return Ok(None);
        };
        let mode = IteratorMode::From(&number_key(last), Direction::Reverse);
        let family = self.kb.family(Family::Departures)?;
        for entry in self.snapshot.iterator_cf(family, mode) {
            let (key, value) = entry.map_err(|error| self.kb.storage(&error))?;
            let number = read_number(&key).ok_or_else(|| self.bad_key(Family::Departures))?;
            let record: SharedRecord = self.kb.decode(&value)?;
            if record.shed.is_none() && !refused(number) {
                return Ok(Some(number));
            }
        }
        Ok(None)
    }
}
