//! The cloud: it commits the edges' samples in epochs of one length, defines tasks, makes models,
//! and publishes these.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ed25519_dalek::SigningKey;
use perennial::link::publish::{publish_new, resume};
use perennial_connectors::knowledge_base::{KnowledgeBase, OutboxWrite, TaskRecord};
use perennial_connectors::link::{Published, PublishedRevisions, seal};
use perennial_connectors::schema::Schema;
use perennial_connectors::source::edges::{EdgeMerge, EdgeRights, EdgesResume, KnownEdges};
use perennial_operators::flow::{
    EdgeHistory, EdgeProgress, Effect, EpochEffects, EpochHeader, Intake, KnowledgeChange,
    ModelTrained, Phase, Remodeling, Revision,
};
use perennial_operators::{
    Batch, Epoch, ModelId, RetainedSample, SITE, SamplesRetained, TaskDefinition, TaskId,
    TopicPartition,
};

use support::stream::Chance;

use super::edge::copy_folder;
use super::net::Net;

/// Number of samples in an epoch.
pub const EPOCH: usize = 50;
/// Number of epochs between models.
const MODELS: u64 = 5;

/// The last published revision of each task.
pub type Revisions = BTreeMap<TaskId, u64>;

/// The cloud's key.
pub fn key() -> SigningKey {
    SigningKey::from_bytes(&[9; 32])
}

/// The deployed version of each task.
pub fn deployed(knowledge: &KnowledgeBase) -> BTreeMap<TaskId, Option<u32>> {
    let tasks = knowledge.view().tasks().expect("tasks").into_iter();
    let tasks = tasks.filter(|(_, record)| record.moved.is_some());
    tasks
        .map(|(task, record)| (task, record.deployed))
        .collect()
}

pub struct Cloud {
    state: PathBuf,
    listening: KnownEdges,
    schema: Schema,
    process: Option<Process>,
}

/// The process, which a kill removes.
struct Process {
    knowledge: Arc<KnowledgeBase>,
    merge: EdgeMerge,
    /// The position in the upward log.
    read: usize,
    /// Number of samples taken for the next epoch.
    taken: usize,
    /// What is published; none before the topic was read.
    published: Option<BTreeMap<(TaskId, u64), Revision>>,
    /// Progress and histories of edges that moved since the last commit.
    moved: BTreeMap<Arc<str>, EdgeProgress>,
    histories: BTreeMap<Arc<str>, EdgeHistory>,
}

fn place() -> TopicPartition {
    TopicPartition {
        topic: "up".into(),
        partition: 0,
    }
}

impl Cloud {
    pub fn new(folder: &Path, edges: BTreeMap<String, EdgeRights>) -> Cloud {
        let settings = super::settings(folder, "any", "samples: raw", "");
        Cloud {
            state: folder.join("cloud"),
            listening: KnownEdges {
                edges,
                schema: perennial::link::common::schema(&settings),
                in_order: true,
            },
            schema: settings.schema,
            process: None,
        }
    }

    fn process(&mut self) -> &mut Process {
        let (state, listening, schema) = (&self.state, &self.listening, &self.schema);
        self.process.get_or_insert_with(|| {
            let knowledge = KnowledgeBase::open(state, &[]).expect("a store");
            let view = knowledge.view();
            let (progress, edges) = (view.progress().expect("one"), view.edges().expect("some"));
            let histories = view.histories().expect("some");
            drop(view);
            let read = progress.offsets.get(&place()).copied().unwrap_or(0);
            let resume = EdgesResume {
                samples: progress.samples,
                edges,
                histories,
                ..EdgesResume::default()
            };
            Process {
                merge: EdgeMerge::new(listening.clone(), schema, 1_000_000, &resume),
                knowledge: Arc::new(knowledge),
                read: read as usize,
                taken: 0,
                published: None,
                moved: BTreeMap::new(),
                histories: BTreeMap::new(),
            }
        })
    }

    /// Takes in at most `messages` messages.
    pub fn work(&mut self, net: &Net, messages: usize) {
        let process = self.process();
        for _ in 0..messages {
            let Some((key, value)) = net.up.get(process.read) else {
                break;
            };
            let changes = process.merge.open(key.as_bytes(), Some(value));
            let changes = changes.expect("nobody sends what is to be refused");
            let pushed = process
                .merge
                .push(changes, value.len(), 0, process.read as i64);
            pushed.expect("nor that");
            process.read += 1;
        }
        loop {
            while process.taken < EPOCH
                && let Some(taken) = process.merge.take_sample()
            {
                taken.expect("good samples");
                process.taken += 1;
            }
            if process.taken < EPOCH {
                return;
            }
            process.taken = 0;
            process.commit();
        }
    }

    pub fn publish(&mut self, net: &mut Net, chance: &mut Chance, rough: bool) {
        let schema = self.listening.schema.clone();
        let process = self.process();
        let knowledge = process.knowledge.clone();
        let sent = process.published.get_or_insert_with(|| {
            let mut found = PublishedRevisions::default();
            let verifying = key().verifying_key();
            for (key, value) in &net.down {
                found.add(key.as_bytes(), Some(value), &verifying);
            }
            let read_back = resume(&knowledge, found).expect("it resumes");
            assert!(read_back.forgotten.is_empty(), "{read_back:?}");
            read_back.sent
        });
        loop {
            let publish = |published: Published| {
                let sealed = seal(&published, &key())?;
                Ok(net.send(false, (published.key(), sealed), chance, rough))
            };
            let all = publish_new(publish, &knowledge, &schema, &[], sent);
            // A lost message is published again later.
            if all.expect("it can be published") || rough {
                return;
            }
        }
    }

    /// Kills the process; it is started again when next needed.
    pub fn crash(&mut self) {
        self.process = None;
    }

    /// Ends its process, and copies its state to `copy`.
    pub fn back_up(&mut self, copy: &Path) {
        self.process = None;
        copy_folder(&self.state, copy);
    }

    /// Ends its process, and puts the state in `copy` in place of its own.
    pub fn restore(&mut self, copy: &Path) {
        self.process = None;
        std::fs::remove_dir_all(&self.state).expect("it is removed");
        copy_folder(copy, &self.state);
    }

    /// Ends it; returns its state folder.
    pub fn close(mut self) -> PathBuf {
        self.process = None;
        self.state
    }

    pub fn samples(&mut self) -> u64 {
        let view = self.process().knowledge.view();
        view.progress().expect("progress").samples
    }

    /// The progress of an edge's changes in the cloud.
    pub fn progress(&mut self, edge: &str) -> EdgeProgress {
        // With those of an incomplete epoch.
        let process = self.process();
        process.close();
        let stored = process.knowledge.view().edges().expect("edges");
        let known = process.moved.get(edge).or(stored.get(edge));
        known.copied().unwrap_or_default()
    }

    /// The history of an edge in the cloud.
    pub fn history(&mut self, edge: &str) -> EdgeHistory {
        let process = self.process();
        process.close();
        let stored = process.knowledge.view().histories().expect("histories");
        let known = process.histories.get(edge).or(stored.get(edge));
        known.cloned().unwrap_or_default()
    }

    pub fn revisions(&mut self) -> Revisions {
        let tasks = self.process().knowledge.view().tasks().expect("tasks");
        let moved = tasks
            .into_iter()
            .filter_map(|(task, record)| Some((task, record.moved?.0 + 1)));
        moved.collect()
    }

    pub fn deployed(&mut self) -> BTreeMap<TaskId, Option<u32>> {
        deployed(&self.process().knowledge)
    }

    pub fn assert_sound(&mut self) {
        let findings = self.process().knowledge.view().verify().expect("findings");
        assert!(findings.is_empty(), "{findings:?}");
    }
}

impl Process {
    /// Notes how far the edges' changes were taken in.
    fn close(&mut self) {
        let (_, moved) = self.merge.close();
        self.moved.extend(moved);
        self.histories.extend(self.merge.take_histories());
    }

    /// Commits an epoch.
    fn commit(&mut self) {
        let mut progress = self.knowledge.view().progress().expect("progress");
        let known = self.knowledge.view().tasks().expect("tasks");
        let epoch = progress.next_epoch();
        let batch = self.merge.take();
        self.close();
        let edges = std::mem::take(&mut self.moved);
        let histories = std::mem::take(&mut self.histories);
        progress.epoch = epoch;
        progress.records += batch.len() as u64;
        progress.samples += batch.len() as u64;
        let header = EpochHeader {
            epoch,
            end: progress.samples,
            clock: 0,
            phase: Phase::Live,
        };
        progress.header = Some(header);
        let waits = self.merge.first_offset(0);
        let resume = waits.unwrap_or(self.read as i64);
        progress.offsets.insert(place(), resume);
        let retired = retired(epoch, &known);
        let mut known: BTreeSet<TaskId> = known.into_keys().collect();
        let mut effects = learn(epoch, &batch, &mut known);
        effects.extend(retired.map(Effect::Change));
        effects.push(Effect::Intake(Intake {
            header,
            records: batch.len() as u64,
            samples: batch.len() as u64,
            bootstrapped: 0,
            ended: false,
            dead_letters: Vec::new(),
            offsets: BTreeMap::new(),
            topics: BTreeMap::new(),
            refused: Default::default(),
            early_labels: Vec::new(),
            settled_labels: Vec::new(),
            seen: Default::default(),
            edges,
            histories,
        }));
        let epochs = [EpochEffects::gather(epoch, effects)];
        progress.changes += epochs[0].changes.len() as u64;
        self.knowledge
            .commit(&epochs, &progress, &OutboxWrite::default())
            .expect("a commit");
    }
}

/// Every other model is retired in the next epoch.
fn retired(epoch: Epoch, known: &BTreeMap<TaskId, TaskRecord>) -> Option<KnowledgeChange> {
    if !epoch.0.is_multiple_of(2 * MODELS) {
        return None;
    }
    let mut models = known.iter().filter_map(|(task, record)| {
        let (task, version) = (*task, record.deployed?);
        Some(ModelId { task, version })
    });
    let model = models.find(|model| u64::from(model.version) + 1 == epoch.0)?;
    Some(KnowledgeChange::ModelRetired { model })
}

/// The effects of an epoch's samples.
fn learn(epoch: Epoch, batch: &Batch, known: &mut BTreeSet<TaskId>) -> Vec<Effect> {
    let mut changes = Vec::new();
    let base = TaskDefinition::base();
    let mut define = |task: &TaskDefinition, changes: &mut Vec<KnowledgeChange>| {
        if known.insert(task.task) {
            changes.push(KnowledgeChange::TaskDefined(task.clone()));
        }
    };
    define(&base, &mut changes);
    let mut last = base.task;
    let mut retained: BTreeMap<TaskId, Vec<RetainedSample>> = BTreeMap::new();
    for row in 0..batch.len() {
        let site = batch.attribute(SITE, row).to_string();
        let task = base.child(&[("site".to_string(), site)]);
        define(&task, &mut changes);
        last = task.task;
        retained.entry(task.task).or_default().push(RetainedSample {
            sequence: batch.sequence(row),
            time: batch.times[row],
            label: batch.labels[row],
            features: batch.features.row(row).to_vec(),
            weight: 1.0,
        });
    }
    for (task, samples) in retained {
        changes.push(KnowledgeChange::SamplesRetained(SamplesRetained {
            task,
            samples,
            dropped: Vec::new(),
            classes: Vec::new(),
        }));
    }
    let mut effects: Vec<Effect> = Vec::new();
    if epoch.0 % MODELS == MODELS - 1 {
        let model = ModelId {
            task: last,
            version: epoch.0 as u32,
        };
        let onnx = format!("the model of epoch {epoch}").into_bytes();
        let hash = blake3::hash(&onnx).to_hex().to_string();
        changes.push(KnowledgeChange::ModelTrained(ModelTrained {
            model,
            hash: hash.clone(),
            bytes: onnx.len() as u64,
            samples: EPOCH as u64,
            latest: batch.first,
            remodeling: Remodeling::Scratch,
        }));
        changes.push(KnowledgeChange::ModelDeployed { model });
        effects.push(Effect::Model(hash, Arc::new(onnx)));
    }
    effects.extend(changes.into_iter().map(Effect::Change));
    effects
}
