//! Outbox of an edge: changes that its policy lets leave. They are put there by the commit that
//! they belong to, and stay until they have arrived, or are shed for lack of room.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use perennial_connectors::knowledge_base::{
    KnowledgeBase, OutboxProgress, OutboxWrite, ShareTerms, SharedRecord, ShedReason, View,
};
use perennial_connectors::link::{Change, Donation, LARGEST_CONTENT, PublishedModel, now};
use perennial_operators::flow::{
    EpochEffects, KnowledgeChange, ModelEvaluated, ModelTrained, Remodeling,
};
use perennial_operators::share::{SharePolicy, Treatment};
use perennial_operators::{ModelId, TaskDefinition, TaskId};

use super::common::{LAST_CLOUD_VERSION, MESSAGE_BYTES, policy};
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
}

impl SendProgress {
    /// Number of the first change that has not arrived.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }
}

/// The outbox, as the committer keeps it.
pub struct Outbox {
    policy: SharePolicy,
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
    /// Tasks as they are named elsewhere, by their ids here.
    names: BTreeMap<TaskId, TaskDefinition>,
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
            names: names_elsewhere(&view, &policy)?,
            policy,
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
        self.drop_sent(progress);
        let mut write = OutboxWrite::default();
        for forbidden in std::mem::take(&mut self.forbidden) {
            self.shed(&forbidden, ShedReason::Policy, progress, &mut write);
        }
        for change in self.changes(epochs) {
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

    /// Drops the changes that have arrived.
    fn drop_sent(&mut self, progress: &mut OutboxProgress) {
        let sent = self.send_progress.sent();
        while self
            .waiting
            .front()
            .is_some_and(|first| first.number < sent)
        {
            self.waiting.pop_front();
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

    /// What may leave of a commit, cut into changes that fit into a message and of which several
    /// fit into the outbox. An epoch's part of a batch is not cut, nor are statistics. Each model
    /// is a change of its own.
    fn changes(&mut self, epochs: &mut [EpochEffects]) -> Vec<Change> {
        let most = MESSAGE_BYTES.min(self.config.bytes as usize / 8);
        let (mut changes, mut models) = (Vec::new(), Vec::new());
        let (mut change, mut bytes) = (Change::default(), 0);
        for effects in epochs {
            for part in effects.shared.drain(..) {
                bytes += part.bytes();
                if bytes > most && !change.is_empty() {
                    bytes = part.bytes();
                    changes.push(std::mem::take(&mut change));
                }
                change.samples.push(part);
                change.epoch = effects.epoch;
            }
            self.learn_names(&effects.changes);
            let names = |task: TaskId| self.names.get(&task).cloned();
            let statistics = self.policy.statistics(&effects.changes, &names);
            change.statistics.extend(statistics);
            change.epoch = effects.epoch;
            if self.policy.models {
                models.extend(self.models(effects).into_iter().map(|donation| Change {
                    epoch: effects.epoch,
                    models: vec![donation],
                    ..Change::default()
                }));
            }
        }
        changes.push(change);
        changes.append(&mut models);
        changes.retain(|change| !change.is_empty());
        changes
    }

    /// The models that were trained here and deployed in an epoch.
    fn models(&self, effects: &EpochEffects) -> Vec<Donation> {
        let mut trained = BTreeMap::new();
        let mut evaluated = BTreeMap::new();
        let mut models = Vec::new();
        for change in &effects.changes {
            match change {
                KnowledgeChange::ModelTrained(change) => {
                    trained.insert(change.model, change);
                }
                KnowledgeChange::ModelEvaluated(change) => {
                    evaluated.insert(change.model, change);
                }
                KnowledgeChange::ModelDeployed { model } if model.version > LAST_CLOUD_VERSION => {
                    let (Some(trained), Some(path)) = (trained.get(model), self.path(model.task))
                    else {
                        continue;
                    };
                    let mut stored = effects.models.iter();
                    if let Some((_, onnx)) = stored.find(|(hash, _)| *hash == trained.hash) {
                        let evaluated = evaluated.get(model).copied().cloned();
                        models.push(self.donation(path, trained, evaluated, onnx));
                    }
                }
                _ => {}
            }
        }
        models
    }

    /// The path of a task as it is named elsewhere.
    fn path(&self, task: TaskId) -> Option<Vec<TaskDefinition>> {
        let mut path = vec![self.names.get(&task)?.clone()];
        while let Some(parent) = path[0].parent {
            let above = self.names.values().find(|above| above.task == parent);
            path.insert(0, above?.clone());
        }
        Some(path)
    }

    /// Takes in the names that tasks get elsewhere.
    fn learn_names(&mut self, changes: &[KnowledgeChange]) {
        for change in changes {
            match change {
                KnowledgeChange::TaskPseudonym(renamed) => {
                    let elsewhere = renamed.elsewhere.clone();
                    self.names.insert(renamed.here.task, elsewhere);
                }
                KnowledgeChange::TaskDefined(task) if !self.policy.renames() => {
                    self.names.insert(task.task, task.clone());
                }
                _ => {}
            }
        }
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
                let tried = change.number < self.send_progress.tried.load(Ordering::SeqCst);
                write.shed.push((change.number, why, tried));
            }
        }
    }

    /// A model under the name that its task has elsewhere. Task ids are replaced too: they are
    /// hashes of names that must not leave.
    fn donation(
        &self,
        path: Vec<TaskDefinition>,
        trained: &ModelTrained,
        evaluated: Option<ModelEvaluated>,
        onnx: &[u8],
    ) -> Donation {
        let task = path.last().map_or(TaskId::BASE, |task| task.task);
        let model = ModelId {
            task,
            version: trained.model.version,
        };
        let elsewhere = |model: ModelId| {
            let task = self.names.get(&model.task)?.task;
            Some(ModelId { task, ..model })
        };
        let remodeling = match trained.remodeling {
            known if !self.policy.renames() => Some(known),
            Remodeling::WarmStart { from } => {
                elsewhere(from).map(|from| Remodeling::WarmStart { from })
            }
            Remodeling::Adopted { model } => {
                elsewhere(model).map(|model| Remodeling::Adopted { model })
            }
            Remodeling::Pooled { with } => {
                let with = self.names.get(&with).map(|task| task.task);
                with.map(|with| Remodeling::Pooled { with })
            }
            other => Some(other),
        };
        Donation {
            path,
            model: PublishedModel {
                model,
                trained: ModelTrained {
                    model,
                    remodeling: remodeling.unwrap_or(Remodeling::Scratch),
                    ..trained.clone()
                },
                evaluated: evaluated.map(|evaluated| ModelEvaluated {
                    model,
                    incumbent: evaluated.incumbent.and_then(elsewhere),
                    ..evaluated
                }),
                onnx: onnx.to_vec(),
                is_stored: false,
            },
        }
    }
}

/// Definitions of tasks as they are named elsewhere, by their ids here.
fn names_elsewhere(
    view: &View<'_>,
    policy: &SharePolicy,
) -> Result<BTreeMap<TaskId, TaskDefinition>, Error> {
    if policy.renames() {
        let renamed = view.pseudonyms()?.into_values();
        Ok(renamed
            .filter(|renamed| renamed.naming == policy.naming())
            .map(|renamed| (renamed.here.task, renamed.elsewhere))
            .collect())
    } else {
        let tasks = view.tasks()?.into_iter();
        Ok(tasks
            .map(|(task, record)| (task, record.definition))
            .collect())
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
