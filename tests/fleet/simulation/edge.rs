//! An edge: it commits samples with the changes it shares, sends these, and applies the cloud's
//! messages.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ed25519_dalek::SigningKey;
use perennial::config::Settings;
use perennial::error::Error;
use perennial::link::adopt::{Usage, outcome};
use perennial::link::common::schema;
use perennial::link::outbox::{Outbox, SendProgress};
use perennial::link::outcomes::LinkOutcomes;
use perennial::link::send::send_all;
use perennial_connectors::knowledge_base::{KnowledgeBase, OutboxProgress};
use perennial_connectors::link::{
    Changes, LinkError, Sender, Subscription, VerifyingKey, now, seal,
};
use perennial_operators::flow::{Deployment, Effect, EpochEffects, Intake, TrainOutcome};
use perennial_operators::flow::{EpochHeader, Phase};
use perennial_operators::learn::OutcomeQueue;
use perennial_operators::{SharedSamples, SharedTexts};
use perennial_operators::{TaskId, Texts};

use support::stream::Chance;

use super::cloud::{self, Revisions};
use super::net::Net;

pub struct Edge {
    pub name: String,
    pub given: usize,
    pub is_cut: bool,
    number: usize,
    edges: usize,
    key: SigningKey,
    settings: Settings,
    state: PathBuf,
    /// The process, which a kill removes.
    process: Option<Process>,
}

struct Process {
    knowledge: Arc<KnowledgeBase>,
    outbox: Outbox,
    underway: Arc<SendProgress>,
    following: Subscription,
    coming: crossbeam_channel::Sender<TrainOutcome>,
    outcomes: LinkOutcomes,
    /// The position in the downward log.
    read: usize,
}

impl Process {
    fn start(settings: &Settings, state: &Path) -> Process {
        let knowledge = KnowledgeBase::open(state, &settings.fingerprint()).expect("a store");
        let underway = Arc::new(SendProgress::default());
        let link = settings.config().link.as_ref().expect("a link");
        let outbox = Outbox::open(settings, link, &knowledge, underway.clone()).expect("an outbox");
        let known = knowledge.view().revisions().expect("revisions");
        let (coming, outcomes) = LinkOutcomes::new();
        Process {
            following: Subscription {
                topic: String::new(),
                key: cloud::key().verifying_key(),
                schema: schema(settings),
                subscribed: Vec::new(),
                edge: settings.config().name.clone(),
                takes_donations: false,
                known,
            },
            coming,
            outcomes,
            outbox: outbox.expect("it shares"),
            underway,
            knowledge: Arc::new(knowledge),
            read: 0,
        }
    }

    /// Commits the received outcomes, in one epoch or several.
    fn take_in(&mut self) {
        loop {
            let outcomes = self.outcomes.take().expect("outcomes");
            if outcomes.is_empty() {
                return;
            }
            let mut effects = Vec::new();
            for outcome in outcomes {
                if let Some(Deployment::Deploy(model)) = outcome.deployment {
                    effects.push(Effect::Model(model.hash, model.onnx));
                }
                effects.extend(outcome.changes.into_iter().map(Effect::Change));
            }
            self.commit(effects, 0);
        }
    }

    /// Commits an epoch's effects; `samples` are shared.
    fn commit(&mut self, effects: Vec<Effect>, samples: u64) {
        let mut progress = self.knowledge.view().progress().expect("progress");
        let epoch = progress.next_epoch();
        progress.epoch = epoch;
        progress.samples += samples;
        let header = EpochHeader {
            epoch,
            end: progress.samples,
            clock: 0,
            phase: Phase::Live,
        };
        progress.header = Some(header);
        let intake = Intake {
            header,
            records: samples,
            samples,
            bootstrapped: 0,
            ended: false,
            dead_letters: Vec::new(),
            offsets: BTreeMap::new(),
            topics: BTreeMap::new(),
            refused: Default::default(),
            early_labels: Vec::new(),
            settled_labels: Vec::new(),
            seen: Default::default(),
            edges: BTreeMap::new(),
            histories: BTreeMap::new(),
        };
        let effects = effects.into_iter().chain([Effect::Intake(intake)]);
        let mut epochs = [EpochEffects::gather(epoch, effects.collect())];
        progress.changes += epochs[0].changes.len() as u64;
        let write = self.outbox.take(&mut epochs, &mut progress.outbox);
        let write = write.expect("a write");
        self.knowledge
            .commit(&epochs, &progress, &write)
            .expect("a commit");
    }
}

impl Edge {
    pub fn new(number: usize, edges: usize, settings: Settings, folder: &Path) -> Edge {
        let name = settings.config().name.clone();
        let state = folder.join(&name);
        let mut seed = [1; 32];
        seed[..8].copy_from_slice(&(number as u64).to_le_bytes());
        Edge {
            process: Some(Process::start(&settings, &state)),
            key: SigningKey::from_bytes(&seed),
            name,
            number,
            edges,
            given: 0,
            is_cut: false,
            settings,
            state,
        }
    }

    pub fn public(&self) -> VerifyingKey {
        self.key.verifying_key()
    }

    fn process(&mut self) -> &mut Process {
        let (settings, state) = (&self.settings, &self.state);
        self.process
            .get_or_insert_with(|| Process::start(settings, state))
    }

    /// Commits the next samples, up to `most` in all.
    pub fn work(&mut self, count: usize, most: usize) {
        let rows = self.given..(self.given + count).min(most);
        if rows.is_empty() {
            return;
        }
        self.given = rows.end;
        let samples = rows.len() as u64;
        // In parts, as batches and workers have them.
        let parts = rows.map(|row| Effect::Shared(self.part(row..row + 1)));
        let parts = parts.collect();
        self.process().commit(parts, samples);
    }

    /// Makes samples.
    fn part(&self, rows: std::ops::Range<usize>) -> SharedSamples {
        // The edges' samples alternate.
        let order = |row: usize| row * self.edges + self.number;
        let mut ids = Texts::default();
        rows.clone()
            .for_each(|row| ids.push(&format!("sample {}", order(row))));
        let text = |text: &str| {
            Some(SharedTexts {
                values: vec![text.into()],
                codes: vec![0; rows.len()],
            })
        };
        let column = |scale: f32| {
            let values = rows.clone().map(|row| order(row) as f32 * scale);
            Some(values.collect())
        };
        SharedSamples {
            sequences: rows.clone().map(|row| row as u64).collect(),
            times: rows
                .clone()
                .map(|row| order(row) as i64 * 1_000_000)
                .collect(),
            ids: Some(ids),
            attributes: vec![text(&format!("site {}", self.number % 7)), text("dry")],
            features: vec![column(1.0), column(0.5), None, None],
            labels: rows.clone().map(|row| (order(row) % 3) as f32).collect(),
        }
    }

    /// Commits parts of samples, all in one epoch.
    pub fn share(&mut self, parts: Vec<SharedSamples>) {
        let samples = parts.iter().map(|part| part.len() as u64).sum();
        let parts = parts.into_iter().map(Effect::Shared).collect();
        self.process().commit(parts, samples);
    }

    /// Sends the waiting changes to a topic; returns whether all have arrived.
    pub fn send_to(&mut self, sender: &Sender) -> Result<bool, Error> {
        let message = self.message();
        let process = self.process();
        let send = |message: &mut Changes| sender.send(message, &|| false);
        send_all(send, &process.knowledge, message, &process.underway)
    }

    /// A message without changes.
    fn message(&mut self) -> Changes {
        let (name, schema) = (self.name.clone(), schema(&self.settings));
        Changes {
            edge: name,
            since: self.process().knowledge.since(),
            schema,
            sent: now(),
            shed: 0,
            changes: Vec::new(),
            lineage: None,
        }
    }

    /// Ends its process, and copies its state to `copy`.
    pub fn back_up(&mut self, copy: &Path) {
        self.process = None;
        copy_folder(&self.state, copy);
    }

    /// A second process of the same edge, on the state in `copy`.
    pub fn twin(&self, copy: &Path) -> Edge {
        Edge {
            process: None,
            name: self.name.clone(),
            key: self.key.clone(),
            settings: self.settings.clone(),
            state: copy.to_path_buf(),
            // Its samples are others.
            given: self.given + 1000,
            is_cut: false,
            ..*self
        }
    }

    /// Ends its process, and begins with a new state.
    pub fn start_anew(&mut self) {
        self.process = None;
        std::fs::remove_dir_all(&self.state).expect("it is removed");
        self.given = 0;
    }

    /// Ends its process, and puts the state in `copy` in place of its own.
    pub fn restore(&mut self, copy: &Path) {
        self.process = None;
        std::fs::remove_dir_all(&self.state).expect("it is removed");
        copy_folder(copy, &self.state);
    }

    /// Sends the waiting changes.
    pub fn send(&mut self, net: &mut Net, chance: &mut Chance, rough: bool) {
        let (is_cut, name, key) = (self.is_cut, self.name.clone(), self.key.clone());
        let message = self.message();
        let process = self.process();
        let send = |message: &mut Changes| {
            let sealed = seal(message, &key)?;
            Ok(!is_cut && net.send(true, (name.clone(), sealed), chance, rough))
        };
        send_all(send, &process.knowledge, message, &process.underway).expect("it can be sent");
    }

    /// Reads on in the downward log, or rereads some of it.
    pub fn follow(&mut self, net: &Net, chance: &mut Chance, rough: bool) {
        if self.is_cut {
            return;
        }
        let process = self.process();
        if rough && chance.below(4) == 0 {
            process.read = chance.below(process.read as u64 + 1) as usize;
        }
        let until = process.read + chance.below(20) as usize;
        self.read_until(net, until);
    }

    /// Reads all of the downward log.
    pub fn follow_all(&mut self, net: &Net) {
        self.read_until(net, net.down.len());
    }

    fn read_until(&mut self, net: &Net, until: usize) {
        let process = self.process();
        while process.read < until.min(net.down.len()) {
            let (key, value) = &net.down[process.read];
            process.read += 1;
            let published = match process.following.check(key.as_bytes(), value, 0, now()) {
                Ok(Some(published)) => published,
                Ok(None) | Err(LinkError::Old) => continue,
                Err(error) => panic!("{error}"),
            };
            let outcome = outcome(published, Usage::Answers);
            process.coming.send(outcome).expect("a queue");
            if process.coming.is_full() {
                process.take_in();
            }
        }
        process.take_in();
    }

    /// Kills the process; it is started again when next needed.
    pub fn crash(&mut self, chance: &mut Chance) {
        if chance.below(2) == 0 {
            self.process = None;
        } else {
            // Killed after writing the outbox and before its commit.
            let process = self.process();
            let mut progress = process.knowledge.view().progress().expect("progress");
            process
                .outbox
                .take(&mut [], &mut progress.outbox)
                .expect("a write");
            self.process = None;
        }
    }

    /// Restarts it with other settings.
    pub fn start_with(&mut self, settings: Settings) {
        self.process = None;
        self.settings = settings;
    }

    /// Commits an empty epoch.
    pub fn settle(&mut self) {
        self.process().commit(Vec::new(), 0);
    }

    /// The sequence numbers of the shed changes.
    pub fn shed(&self) -> Vec<usize> {
        self.view(|knowledge| {
            let mut shed = Vec::new();
            let all = knowledge.view().shared_records(0, |number, record| {
                shed.extend(record.shed.map(|_| number as usize));
                Ok(())
            });
            all.expect("shared records");
            shed
        })
    }

    pub fn outbox(&self) -> OutboxProgress {
        self.view(|knowledge| knowledge.view().progress().expect("progress").outbox)
    }

    pub fn revisions(&self) -> Revisions {
        self.view(|knowledge| {
            let followed = knowledge.view().revisions().expect("revisions");
            let followed = followed.into_iter();
            followed
                .map(|((task, _), revision)| (task, revision.number))
                .collect()
        })
    }

    pub fn deployed(&self) -> BTreeMap<TaskId, Option<u32>> {
        self.view(cloud::deployed)
    }

    pub fn assert_sound(&self) {
        let findings = self.view(|knowledge| knowledge.view().verify().expect("findings"));
        assert!(findings.is_empty(), "{}: {findings:?}", self.name);
    }

    fn view<T>(&self, look: impl Fn(&KnowledgeBase) -> T) -> T {
        match &self.process {
            Some(process) => look(&process.knowledge),
            None => look(&KnowledgeBase::open_to_read(&self.state).expect("a store")),
        }
    }
}

/// Copies a folder with all that is in it.
pub fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("a copy");
        }
    }
}
