//! Outbox of an edge: changes that its policy lets leave. They are put there by the commit that
//! they belong to, and stay until they have arrived, or are shed for lack of room.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use perennial_connectors::knowledge_base::{
    Incarnation, KnowledgeBase, OutboxProgress, OutboxWrite, ShareTerms, SharedRecord, ShedReason,
    View,
};
use perennial_connectors::link::{Change, LARGEST_CONTENT, now};
use perennial_operators::flow::EpochEffects;
use perennial_operators::share::{SharePolicy, Treatment};

use super::common::policy;
use super::pack::Packer;
use crate::config::{LinkConfig, OutboxConfig, Settings, Shed};
use crate::error::Error;

/// A change in the outbox.
struct Waiting {
    number: u64,
    bytes: u64,
    samples: u64,
}

/// How far the outbox has been sent; shared by the committer and the sending thread.
#[derive(Debug, Default)]
pub struct SendProgress {
    /// Number of the first change that has not arrived.
    pub sent: AtomicU64,
    /// Number of the first change that was never sent: those before may have arrived.
    pub tried: AtomicU64,
    /// Changes that the topic does not take.
    refused: Mutex<BTreeSet<u64>>,
}

impl SendProgress {
    /// Number of the first change that has not arrived.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }

    /// Notes a change that the topic does not take. The next commit sheds it.
    pub(super) fn refuse(&self, number: u64) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.insert(number);
    }

    /// Whether the topic has refused a change.
    pub(super) fn is_refused(&self, number: u64) -> bool {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.contains(&number)
    }
}

/// The outbox, as the committer keeps it.
pub struct Outbox {
    packer: Packer,
    config: OutboxConfig,
    /// Whether large models go to a store.
    has_store: bool,
    /// Terms of sharing so far; the last ones are in force.
    terms: Vec<ShareTerms>,
    /// Whether the terms in force are in the knowledge base.
    is_committed: bool,
    /// Changes that wait to arrive, by number.
    waiting: VecDeque<Waiting>,
    /// Changes that the terms in force no longer let leave: the next commit sheds them.
    forbidden: Vec<Waiting>,
    send_progress: Arc<SendProgress>,
    /// Incarnations that made the changes that wait, and the one in which new changes are made.
    incarnations: Vec<Incarnation>,
    incarnation: u64,
}

impl Outbox {
    /// Opens the outbox of an edge, if it shares anything. `send_progress` is that of the thread
    /// that sends from it.
    pub fn open(
        settings: &Settings,
        link: &LinkConfig,
        knowledge: &KnowledgeBase,
        send_progress: Arc<SendProgress>,
    ) -> Result<Option<Outbox>, Error> {
        let Some(policy) = policy(settings)? else {
            return Ok(None);
        };
        let view = knowledge.view();
        let progress = view.progress()?.outbox;
        send_progress
            .sent
            .fetch_max(progress.sent, Ordering::SeqCst);
        // An earlier process may have sent any change that waits.
        send_progress
            .tried
            .fetch_max(progress.next, Ordering::SeqCst);
        let sizes = view.outbox_sizes()?;
        let first = sizes
            .first_key_value()
            .map_or(progress.next, |(number, _)| *number);
        let mut terms = view.terms()?;
        let in_force = terms_of(&policy, link);
        let (mut waiting, mut forbidden) = (VecDeque::new(), Vec::new());
        view.shared_records(first, |number, record| {
            if let Some(bytes) = sizes.get(&number).copied() {
                let its_terms = terms.get(record.terms as usize);
                let is_allowed = its_terms.is_some_and(|terms| in_force.allow(terms, &record));
                let samples = record.samples;
                let change = Waiting {
                    number,
                    bytes,
                    samples,
                };
                if is_allowed {
                    waiting.push_back(change);
                } else {
                    forbidden.push(change);
                }
            }
            Ok(())
        })?;
        let is_committed = terms.last() == Some(&in_force);
        if !is_committed {
            terms.push(in_force);
        }
        Ok(Some(Outbox {
            packer: Packer::new(&view, policy, link.outbox.bytes)?,
            incarnations: view.incarnations()?,
            incarnation: knowledge.incarnation(),
            config: link.outbox.clone(),
            has_store: link.store.is_some(),
            terms,
            is_committed,
            waiting,
            forbidden,
            send_progress,
        }))
    }

    /// Whether a change has arrived since the last commit.
    pub fn has_news(&self) -> bool {
        let sent = self.send_progress.sent();
        self.waiting
            .front()
            .is_some_and(|first| first.number < sent)
    }

    /// Whether a change waits that the terms in force no longer let leave. It is to be shed before
    /// anything is sent.
    pub fn has_forbidden(&self) -> bool {
        !self.forbidden.is_empty()
    }

    /// Puts the changes of a commit that may leave into the outbox, drops those that have arrived,
    /// and sheds those without room.
    pub fn take(
        &mut self,
        epochs: &mut [EpochEffects],
        progress: &mut OutboxProgress,
    ) -> Result<OutboxWrite, Error> {
        let mut write = OutboxWrite::default();
        self.drop_sent(progress, &mut write);
        for forbidden in std::mem::take(&mut self.forbidden) {
            self.shed(&forbidden, ShedReason::Policy, progress, &mut write);
        }
        for change in self.packer.changes(epochs) {
            self.note_incarnation(progress.next, &mut write);
            self.add(&change, progress, &mut write)?;
        }
        if !write.added.is_empty() && !std::mem::replace(&mut self.is_committed, true) {
            write.terms = Some(self.terms.clone());
        }
        let first = self.waiting.front().map(|first| first.number);
        write.floor = Some(first.unwrap_or(progress.next));
        progress.waiting = self.waiting.len() as u64;
        progress.bytes = self.waiting.iter().map(|waiting| waiting.bytes).sum();
        progress.samples = self.waiting.iter().map(|waiting| waiting.samples).sum();
        Ok(write)
    }

    /// Notes that new changes, from a number on, are made in this opening of the state.
    fn note_incarnation(&mut self, first: u64, write: &mut OutboxWrite) {
        let id = self.incarnation;
        if self.incarnations.last().is_some_and(|last| last.id == id) {
            return;
        }
        self.incarnations.push(Incarnation { first, id });
        // Earlier ones are needed as long as their changes wait.
        let floor = self.waiting.front().map_or(first, |first| first.number);
        let later = self.incarnations.iter().skip(1);
        let done = later.take_while(|later| later.first <= floor).count();
        self.incarnations.drain(..done);
        write.incarnations = Some(self.incarnations.clone());
    }

    /// Drops the changes that have arrived, and sheds those that the topic does not take.
    fn drop_sent(&mut self, progress: &mut OutboxProgress, write: &mut OutboxWrite) {
        let sent = self.send_progress.sent();
        let has_arrived = |first: &Waiting| first.number < sent;
        while self.waiting.front().is_some_and(has_arrived)
            && let Some(first) = self.waiting.pop_front()
        {
            if self.send_progress.is_refused(first.number) {
                self.shed(&first, ShedReason::Size, progress, write);
            }
        }
        if progress.sent < sent {
            progress.sent = sent;
            progress.arrived = Some(now());
        }
    }

    /// Numbers a change and puts it into the outbox, if there is room for it.
    fn add(
        &mut self,
        change: &Change,
        progress: &mut OutboxProgress,
        write: &mut OutboxWrite,
    ) -> Result<(), Error> {
        let encoded = postcard::to_stdvec(change).map_err(|error| Error::Failed(error.into()))?;
        let record = SharedRecord {
            epoch: change.epoch,
            time: now(),
            samples: change.rows(),
            statistics: change.statistics.len() as u64,
            models: change.models.len() as u64,
            bytes: encoded.len() as u64,
            terms: self.terms.len() as u32 - 1,
            shed: None,
            tried: false,
        };
        let number = progress.next;
        progress.next += 1;
        // A store takes large models. Anything else that does not fit into a message never will.
        let is_stored = self.has_store && !change.models.is_empty();
        let is_too_large = !is_stored && encoded.len() > LARGEST_CONTENT;
        if is_too_large {
            tracing::error!(
                bytes = encoded.len(),
                samples = record.samples,
                models = record.models,
                "dropped a change that does not fit into a message of the link: set link.store for \
                 large models, lower epoch.records for samples"
            );
        }
        let new = Waiting {
            number,
            bytes: record.bytes,
            samples: record.samples,
        };
        write.added.push((number, record, Some(encoded)));
        if is_too_large {
            self.shed(&new, ShedReason::Size, progress, write);
        } else {
            self.make_room(new, progress, write);
        }
        Ok(())
    }

    /// Puts a change into the outbox, and sheds changes for which there is no room.
    fn make_room(&mut self, new: Waiting, progress: &mut OutboxProgress, write: &mut OutboxWrite) {
        let mut bytes: u64 = self.waiting.iter().map(|waiting| waiting.bytes).sum();
        bytes += new.bytes;
        let never_fits = new.bytes > self.config.bytes;
        if never_fits || (self.config.shed == Shed::Newest && bytes > self.config.bytes) {
            self.shed(&new, ShedReason::Room, progress, write);
            return;
        }
        self.waiting.push_back(new);
        while bytes > self.config.bytes
            && let Some(first) = self.waiting.pop_front()
        {
            bytes -= first.bytes;
            self.shed(&first, ShedReason::Room, progress, write);
        }
    }

    /// Sheds a change and counts it.
    fn shed(
        &self,
        change: &Waiting,
        why: ShedReason,
        progress: &mut OutboxProgress,
        write: &mut OutboxWrite,
    ) {
        progress.shed += 1;
        progress.shed_samples += change.samples;
        let mut added = write.added.iter_mut();
        match added.find(|(number, ..)| *number == change.number) {
            Some((_, record, encoded)) => {
                record.shed = Some(why);
                *encoded = None;
            }
            None => {
                let was_sent = change.number < self.send_progress.tried.load(Ordering::SeqCst);
                // What is too large has not arrived.
                let tried = was_sent && why != ShedReason::Size;
                write.shed.push((change.number, why, tried));
            }
        }
    }
}

/// Sheds all changes that wait, for an edge that no longer shares anything.
pub fn shed_all(view: &View<'_>, progress: &mut OutboxProgress) -> Result<OutboxWrite, Error> {
    let waiting = view.outbox_sizes()?;
    let shed = waiting.keys();
    progress.shed += progress.waiting;
    progress.shed_samples += progress.samples;
    (progress.waiting, progress.samples, progress.bytes) = (0, 0, 0);
    Ok(OutboxWrite {
        // An earlier process may have sent them.
        shed: shed
            .map(|number| (*number, ShedReason::Policy, true))
            .collect(),
        floor: Some(progress.next),
        ..OutboxWrite::default()
    })
}

/// The terms under which a policy lets changes leave.
fn terms_of(policy: &SharePolicy, link: &LinkConfig) -> ShareTerms {
    let mut terms = ShareTerms {
        to: format!("{} at {}", link.changes, link.kafka.brokers),
        fields: Vec::new(),
        pseudonyms: Vec::new(),
        task_fields: Vec::new(),
        task_pseudonyms: Vec::new(),
        samples: policy.samples.is_some(),
        statistics: policy.statistics && policy.samples.is_none(),
        models: policy.models,
    };
    let add = |name: &str, treatment, fields: &mut Vec<String>, pseudonyms: &mut Vec<String>| {
        let names = match treatment {
            Treatment::Shared => fields,
            Treatment::Pseudonym => pseudonyms,
            Treatment::Withheld => return,
        };
        if !names.iter().any(|listed| listed == name) {
            names.push(name.to_string());
        }
    };
    if let Some(rules) = &policy.samples {
        for (name, treatment) in std::iter::once(&rules.id).chain(&rules.attributes) {
            add(name, *treatment, &mut terms.fields, &mut terms.pseudonyms);
        }
        let shared = rules.features.iter().filter(|(_, shared)| *shared);
        for (name, _) in shared {
            let shared = Treatment::Shared;
            add(name, shared, &mut terms.fields, &mut terms.pseudonyms);
        }
    }
    if terms.statistics || terms.models {
        let (fields, pseudonyms) = (&mut terms.task_fields, &mut terms.task_pseudonyms);
        for (_, name, treatment) in policy.path_attributes() {
            add(name, treatment, fields, pseudonyms);
        }
    }
    terms
}
