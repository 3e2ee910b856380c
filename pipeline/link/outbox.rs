//! An edge's outbox: what its policy lets leave, put there with the commit that it is of, and kept until it has arrived.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use perennial_connectors::knowledge_base::{
    Departure, KnowledgeBase, OutboxProgress, OutboxWrite, ShareTerms, Shedding, View,
};
use perennial_connectors::link::{Change, Donation, LARGEST_CONTENT, PublishedModel, now};
use perennial_operators::flow::{
    EpochEffects, KnowledgeChange, ModelEvaluated, ModelTrained, Remodeling,
};
use perennial_operators::share::{SharePolicy, Treatment};
use perennial_operators::{ModelId, TaskDefinition, TaskId};

use super::common::policy;
use super::common::{CHANGE, OTHERS};
use crate::config::{LinkConfig, OutboxConfig, Settings, Shed};
use crate::error::Error;

/// A change that waits.
struct Waiting {
    number: u64,
    bytes: u64,
    samples: u64,
}

/// How far sending is.
#[derive(Debug, Default)]
pub struct SendProgress {
    /// Changes before this one have arrived.
    pub sent: AtomicU64,
    /// Changes before this one were sent, and may have arrived.
    pub tried: AtomicU64,
}

impl SendProgress {
    /// Changes before this one have arrived.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }
}

/// What waits to be sent, as the committer keeps it.
pub struct Outbox {
    policy: SharePolicy,
    config: OutboxConfig,
    /// Whether large models go to a store.
    has_store: bool,
    /// ShareTerms, the last of which count, and whether they have been committed.
    terms: Vec<ShareTerms>,
    is_agreed: bool,
    waiting: VecDeque<Waiting>,
    /// What waits under terms that hold no longer.
    forbidden: Vec<Waiting>,
    underway: Arc<SendProgress>,
    /// Tasks as they are known elsewhere, by their numbers here.
    names: BTreeMap<TaskId, TaskDefinition>,
}

impl Outbox {
    /// The outbox of an edge that shares anything. `underway` is where it is told what has arrived.
    pub fn open(
        settings: &Settings,
        link: &LinkConfig,
        knowledge: &KnowledgeBase,
        underway: Arc<SendProgress>,
    ) -> Result<Option<Outbox>, Error> {
        let Some(policy) = policy(settings)? else {
            return Ok(None);
        };
        let view = knowledge.view();
        let progress = view.progress()?.outbox;
        underway.sent.fetch_max(progress.sent, Ordering::SeqCst);
        // By the process before this one.
        underway.tried.fetch_max(progress.next, Ordering::SeqCst);
        let sizes = view.outbox_sizes()?;
        let first = sizes
            .first_key_value()
            .map_or(progress.next, |(number, _)| *number);
        let mut terms = view.terms()?;
        let mine = terms_of(&policy, link);
        let (mut waiting, mut forbidden) = (VecDeque::new(), Vec::new());
        view.departures(first, |number, departure| {
            if let Some(bytes) = sizes.get(&number).copied() {
                let of = terms.get(departure.terms as usize);
                let is_allowed = of.is_some_and(|of| mine.allow(of, &departure));
                let samples = departure.samples;
                let found = Waiting {
                    number,
                    bytes,
                    samples,
                };
                match is_allowed {
                    true => waiting.push_back(found),
                    false => forbidden.push(found),
                }
            }
            Ok(())
        })?;
        let names = match policy.renames() {
            true => view
                .renamed()?
                .into_values()
                .filter(|renamed| renamed.naming == policy.naming())
                .map(|renamed| (renamed.here.task, renamed.elsewhere))
                .collect(),
            false => view
                .tasks()?
                .into_iter()
                .map(|(task, record)| (task, record.definition))
                .collect(),
        };
        let is_agreed = terms.last() == Some(&mine);
        if !is_agreed {
            terms.push(mine);
        }
        Ok(Some(Outbox {
            policy,
            config: link.outbox.clone(),
            has_store: link.store.is_some(),
            terms,
            is_agreed,
            waiting,
            forbidden,
            underway,
            names,
        }))
    }

    /// Whether something has arrived that is still taken to wait.
    pub fn has_news(&self) -> bool {
        let sent = self.underway.sent();
        self.waiting
            .front()
            .is_some_and(|first| first.number < sent)
    }

    /// Whether something waits under terms that hold no longer: it is shed with the next commit, and must not leave before.
    pub fn has_forbidden(&self) -> bool {
        !self.forbidden.is_empty()
    }

    /// Puts what may leave of a commit into the outbox, and drops what has arrived or has no room.
    pub fn take(
        &mut self,
        epochs: &mut [EpochEffects],
        progress: &mut OutboxProgress,
    ) -> Result<OutboxWrite, Error> {
        self.drop_sent(progress);
        let mut write = OutboxWrite::default();
        for forbidden in std::mem::take(&mut self.forbidden) {
            self.shed(&forbidden, Shedding::Policy, progress, &mut write);
        }
        for change in self.changes(epochs) {
            self.add(&change, progress, &mut write)?;
        }
        if !write.added.is_empty() && !std::mem::replace(&mut self.is_agreed, true) {
            write.terms = Some(self.terms.clone());
        }
        let first = self.waiting.front().map(|first| first.number);
        write.floor = Some(first.unwrap_or(progress.next));
        progress.waiting = self.waiting.len() as u64;
        progress.bytes = self.waiting.iter().map(|waiting| waiting.bytes).sum();
        progress.samples = self.waiting.iter().map(|waiting| waiting.samples).sum();
        Ok(write)
    }

    fn drop_sent(&mut self, progress: &mut OutboxProgress) {
        let sent = self.underway.sent();
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

    /// Numbers a change, and puts it where it waits, if there is room for it.
    fn add(
        &mut self,
        change: &Change,
        progress: &mut OutboxProgress,
        write: &mut OutboxWrite,
    ) -> Result<(), Error> {
        let encoded = postcard::to_stdvec(change).map_err(|error| Error::Failed(error.into()))?;
        let departure = Departure {
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
        // A model may be put aside; what has no room in a message otherwise never gets any.
        let is_put_aside = self.has_store && !change.models.is_empty();
        let is_too_large = !is_put_aside && encoded.len() > LARGEST_CONTENT;
        if is_too_large {
            tracing::error!(
                bytes = encoded.len(),
                samples = departure.samples,
                models = departure.models,
                "a change is larger than a message of the link may be, and is shed: set link.store for large models, lower \
                 epoch.records for samples"
            );
        }
        let new = Waiting {
            number,
            bytes: departure.bytes,
            samples: departure.samples,
        };
        write.added.push((number, departure, Some(encoded)));
        match is_too_large {
            true => self.shed(&new, Shedding::Size, progress, write),
            false => self.make_room(new, progress, write),
        }
        Ok(())
    }

    /// What may leave of a commit: changes of so many bytes that several have room in the outbox, unless a part of an epoch, or
    /// statistics, have more; each model by itself.
    fn changes(&mut self, epochs: &mut [EpochEffects]) -> Vec<Change> {
        let most = CHANGE.min(self.config.bytes as usize / 8);
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

    /// The models that were trained here and deployed.
    fn models(&self, effects: &EpochEffects) -> Vec<Donation> {
        let mut trained = BTreeMap::new();
        let mut evaluated = BTreeMap::new();
        let mut models = Vec::new();
        for change in &effects.changes {
            match change {
                KnowledgeChange::ModelTrained(it) => {
                    trained.insert(it.model, it);
                }
                KnowledgeChange::ModelEvaluated(it) => {
                    evaluated.insert(it.model, it);
                }
                KnowledgeChange::ModelDeployed { model } if model.version > OTHERS => {
                    let (Some(trained), Some(path)) = (trained.get(model), self.path(model.task))
                    else {
                        continue;
                    };
                    let bytes = effects.models.iter();
                    let mut bytes = bytes.filter(|(hash, _)| *hash == trained.hash);
                    let evaluated = evaluated.get(model).copied().cloned();
                    models.extend(
                        bytes
                            .next()
                            .map(|(_, onnx)| self.donation(path, trained, evaluated, onnx)),
                    );
                }
                _ => {}
            }
        }
        models
    }

    /// The path of a task as it is known elsewhere.
    fn path(&self, task: TaskId) -> Option<Vec<TaskDefinition>> {
        let mut path = vec![self.names.get(&task)?.clone()];
        while let Some(parent) = path[0].parent {
            let above = self.names.values().find(|above| above.task == parent);
            path.insert(0, above?.clone());
        }
        Some(path)
    }

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

    /// Puts a change where it waits, and sheds what there is no room for.
    fn make_room(&mut self, new: Waiting, progress: &mut OutboxProgress, write: &mut OutboxWrite) {
        let mut bytes: u64 = self.waiting.iter().map(|waiting| waiting.bytes).sum();
        bytes += new.bytes;
        let never_fits = new.bytes > self.config.bytes;
        if never_fits || (self.config.shed == Shed::Newest && bytes > self.config.bytes) {
            self.shed(&new, Shedding::Room, progress, write);
            return;
        }
        self.waiting.push_back(new);
        while bytes > self.config.bytes
            && let Some(first) = self.waiting.pop_front()
        {
            bytes -= first.bytes;
            self.shed(&first, Shedding::Room, progress, write);
        }
    }

    /// Sheds a change, and counts it.
    fn shed(
        &self,
        waiting: &Waiting,
        why: Shedding,
        progress: &mut OutboxProgress,
        write: &mut OutboxWrite,
    ) {
        progress.shed += 1;
        progress.shed_samples += waiting.samples;
        let mut added = write.added.iter_mut();
        match added.find(|(number, ..)| *number == waiting.number) {
            Some((_, departure, change)) => {
                departure.shed = Some(why);
                *change = None;
            }
            None => {
                let tried = waiting.number < self.underway.tried.load(Ordering::SeqCst);
                write.shed.push((waiting.number, why, tried));
            }
        }
    }

    /// A model under the name that its task has elsewhere. Numbers of tasks here are made of what nobody is to read.
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

/// Sheds all that waits, where nothing may leave any more.
pub fn shed_all(view: &View<'_>, progress: &mut OutboxProgress) -> Result<OutboxWrite, Error> {
    let waiting = view.outbox_sizes()?;
    let shed = waiting.keys();
    progress.shed += progress.waiting;
    progress.shed_samples += progress.samples;
    (progress.waiting, progress.samples, progress.bytes) = (0, 0, 0);
    Ok(OutboxWrite {
        // By a process before this one, it may have been sent.
        shed: shed
            .map(|number| (*number, Shedding::Policy, true))
            .collect(),
        floor: Some(progress.next),
        ..OutboxWrite::default()
    })
}

/// Under which terms the policy lets things leave.
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
        if !names.iter().any(|known| known == name) {
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
