//! Column families and key encodings. Numbers in keys are big-endian, so that the order of keys is
//! the order of numbers.

use perennial_operators::flow::{MessageOffset, StageKind};
use perennial_operators::{Epoch, ModelId, TaskId, id_number};

/// A column family, each with its keys → values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    /// Name → single facts, see the `META_` keys.
    Meta,
    /// Epoch, number within the epoch → a block of changes from that number on.
    Changes,
    /// Task → task record.
    Tasks,
    /// Task that an unseen task would become → the unseen task.
    Unseen,
    /// Task that an unseen task would become, sequence number → its labelled sample.
    Held,
    /// Task, number of a donor's name or 0 → its latest revision from the cloud.
    Followed,
    /// Task → the task that it is an alias of.
    Aliases,
    /// Sequence number → request for the label of a pending sample.
    Requests,
    /// Task → total of its statistics, which RocksDB merges.
    Statistics,
    /// Task, epoch → scores in its window.
    Windows,
    /// Task → its adapter.
    Adapters,
    /// Task → its drift detectors.
    Detectors,
    /// Epoch → novelty scores of samples of known tasks.
    Calibration,
    /// Task, epoch → labelled samples of the epoch that are among the task's latest.
    Recents,
    /// Task, sequence number → retained sample.
    Samples,
    /// Task → numbers of its retained samples and of all its samples, class by class.
    Reservoirs,
    /// Task, version → model record.
    Models,
    /// Hash → ONNX bytes.
    Onnx,
    /// Task, version, stage → stage record.
    Stages,
    /// Task, other task → transfer score of the other's model on the task's samples.
    Relations,
    /// Last sequence number → pending samples of an epoch.
    Pending,
    /// Last sequence number of pending samples, epoch → those whose own labels came in that epoch.
    Released,
    /// Number of a sample's id → label that waits for the sample.
    EarlyLabels,
    /// Number → change to send to the cloud.
    Outbox,
    /// Number → permanent record of a change for the cloud.
    Departures,
    /// Task by its pseudonym → the task and its pseudonym.
    Renamed,
    /// Name of an edge → progress through its changes; name and a zero byte → its history.
    Edges,
    /// Number of an edge's name, task → name and statistics of the edge.
    Reported,
    /// Task, number of a donor's name → the donor's latest model of the task.
    Donated,
}

impl Family {
    pub(super) const ALL: [Family; 29] = [
        Family::Meta,
        Family::Changes,
        Family::Tasks,
        Family::Unseen,
        Family::Held,
        Family::Followed,
        Family::Aliases,
        Family::Requests,
        Family::Statistics,
        Family::Windows,
        Family::Adapters,
        Family::Detectors,
        Family::Calibration,
        Family::Recents,
        Family::Samples,
        Family::Reservoirs,
        Family::Models,
        Family::Onnx,
        Family::Stages,
        Family::Relations,
        Family::Pending,
        Family::Released,
        Family::EarlyLabels,
        Family::Outbox,
        Family::Departures,
        Family::Renamed,
        Family::Edges,
        Family::Reported,
        Family::Donated,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Family::Meta => "meta",
            Family::Changes => "changes",
            Family::Tasks => "tasks",
            Family::Unseen => "unseen",
            Family::Held => "held",
            Family::Followed => "followed",
            Family::Aliases => "aliases",
            Family::Requests => "requests",
            Family::Statistics => "statistics",
            Family::Windows => "windows",
            Family::Adapters => "adapters",
            Family::Detectors => "detectors",
            Family::Calibration => "calibration",
            Family::Recents => "recents",
            Family::Samples => "samples",
            Family::Reservoirs => "reservoirs",
            Family::Models => "models",
            Family::Onnx => "onnx",
            Family::Stages => "stages",
            Family::Relations => "relations",
            Family::Pending => "pending",
            Family::Released => "released",
            Family::EarlyLabels => "early_labels",
            Family::Outbox => "outbox",
            Family::Departures => "departures",
            Family::Renamed => "renamed",
            Family::Edges => "edges",
            Family::Reported => "reported",
            Family::Donated => "donated",
        }
    }
}

pub(super) const META_FORMAT: &[u8] = b"format";
pub(super) const META_RUN: &[u8] = b"run";
/// When the store was created, microseconds since 1970.
pub(super) const META_SINCE: &[u8] = b"since";
/// Terms of sharing, oldest first.
pub(super) const META_TERMS: &[u8] = b"terms";
/// Incarnations that made the changes in the outbox: first change and id.
pub(super) const META_INCARNATIONS: &[u8] = b"incarnations";
/// When the numbers of published revisions last began anew, microseconds since 1970.
pub(super) const META_REVISED: &[u8] = b"revised";
pub(super) const META_FINGERPRINT: &[u8] = b"fingerprint";
pub(super) const META_PROGRESS: &[u8] = b"progress";
/// Files of outputs, by the output's name.
pub(super) const META_OUTPUTS: &[u8] = b"outputs";
/// Standard deviation of each feature.
pub(super) const META_DEVIATIONS: &[u8] = b"deviations";
/// Bounds of the retained samples.
pub(super) const META_MEMORY: &[u8] = b"memory";
/// Reference of samples of known tasks.
pub(super) const META_REFERENCE: &[u8] = b"reference";
/// Regions of samples that resemble no known task.
pub(super) const META_REGIONS: &[u8] = b"regions";
/// State of the label requests.
pub(super) const META_ASKED: &[u8] = b"asked";
/// Clusters of features, once they are found.
pub(super) const META_CLUSTERS: &[u8] = b"clusters";
/// Number of samples whose own task is not defined, since there are as many tasks as may be.
pub(super) const META_UNDEFINED: &[u8] = b"undefined";
/// What is being forgotten, until it is out of all families.
pub(super) const META_FORGETTING: &[u8] = b"forgetting";
/// Present until the files have been rewritten after something was forgotten.
pub(super) const META_REWRITING: &[u8] = b"rewriting";
/// Ids of topics, which tell one that was deleted and made anew.
pub(super) const META_TOPICS: &[u8] = b"topics";
/// What was skipped of each partition.
pub(super) const META_SKIPPED: &[u8] = b"skipped";
/// Number of the last commit that was made without a transaction of Kafka.
pub(super) const META_UNTRANSACTED: &[u8] = b"untransacted";
/// A prepared commit: its number and its write.
pub(super) const META_PREPARED: &[u8] = b"prepared";

/// Number of samples up to the end of an epoch, after this prefix → ids of the epoch's samples.
pub(super) const META_SEEN: &[u8] = b"seen:";

/// Topic, a zero byte, partition and offset, after this prefix → a refused message of an edge.
pub(super) const META_REFUSED: &[u8] = b"refused:";

/// The key of a refused message of an edge.
pub(super) fn refused_key(message: &MessageOffset) -> Vec<u8> {
    let MessageOffset { partition, offset } = message;
    let topic = [META_REFUSED, partition.topic.as_bytes(), &[0]].concat();
    [
        &topic[..],
        &partition.partition.to_be_bytes(),
        &offset.to_be_bytes(),
    ]
    .concat()
}

/// The key of the ids of an epoch that ends with `end` samples.
pub(super) fn seen_key(end: u64) -> Vec<u8> {
    [META_SEEN, &end.to_be_bytes()].concat()
}

fn join<const N: usize>(head: [u8; 8], tail: &[u8]) -> [u8; N] {
    let mut key = [0; N];
    key[..8].copy_from_slice(&head);
    key[8..].copy_from_slice(tail);
    key
}

pub(super) fn task_key(task: TaskId) -> [u8; 8] {
    task.0.to_be_bytes()
}

pub(super) fn change_key(epoch: Epoch, number: u32) -> [u8; 12] {
    join(epoch.0.to_be_bytes(), &number.to_be_bytes())
}

pub(super) fn task_epoch_key(task: TaskId, epoch: Epoch) -> [u8; 16] {
    join(task.0.to_be_bytes(), &epoch.0.to_be_bytes())
}

pub(super) fn sample_key(task: TaskId, sequence: u64) -> [u8; 16] {
    join(task.0.to_be_bytes(), &sequence.to_be_bytes())
}

pub(super) fn model_key(model: ModelId) -> [u8; 12] {
    join(model.task.0.to_be_bytes(), &model.version.to_be_bytes())
}

/// Length of [`donor_key`]. Models that were trained have longer keys, their hashes.
pub(super) const DONOR_KEY: usize = 16;

/// The key of a donor's model of a task, or of the task itself.
pub(super) fn donor_key(task: TaskId, donor: Option<&str>) -> [u8; DONOR_KEY] {
    let number = donor.map_or(0, id_number);
    join(task.0.to_be_bytes(), &number.to_be_bytes())
}

/// The key of an edge's history. No name of an edge ends so.
pub(super) fn history_key(edge: &str) -> Vec<u8> {
    [edge.as_bytes(), &[0]].concat()
}

/// The edge of a key, and whether the key is that of its history.
pub(super) fn read_edge(key: &[u8]) -> Option<(String, bool)> {
    let name = key.strip_suffix(&[0]);
    let text = String::from_utf8(name.unwrap_or(key).to_vec());
    Some((text.ok()?, name.is_some()))
}

pub(super) fn reported_key(edge: &str, task: TaskId) -> [u8; 16] {
    join(id_number(edge).to_be_bytes(), &task.0.to_be_bytes())
}

pub(super) fn relation_key(task: TaskId, other: TaskId) -> [u8; 16] {
    join(task.0.to_be_bytes(), &other.0.to_be_bytes())
}

pub(super) fn stage_key(model: ModelId, stage: StageKind) -> [u8; 13] {
    let mut key = [0; 13];
    key[..12].copy_from_slice(&model_key(model));
    key[12] = stage as u8;
    key
}

/// The key of facts ordered by a number: a sequence number, the number of an id, or of a change.
pub(super) fn number_key(last: u64) -> [u8; 8] {
    last.to_be_bytes()
}

pub(super) fn released_key(last: u64, epoch: Epoch) -> [u8; 16] {
    join(last.to_be_bytes(), &epoch.0.to_be_bytes())
}

fn number(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}

fn small(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

pub(super) fn read_task(key: &[u8]) -> Option<TaskId> {
    number(key.get(..8)?).map(TaskId)
}

pub(super) fn read_number(key: &[u8]) -> Option<u64> {
    number(key.get(..8)?)
}

pub(super) fn read_epoch(key: &[u8]) -> Option<Epoch> {
    number(key.get(..8)?).map(Epoch)
}

pub(super) fn read_task_epoch(key: &[u8]) -> Option<(TaskId, Epoch)> {
    Some((read_task(key)?, Epoch(number(key.get(8..16)?)?)))
}

pub(super) fn read_model(key: &[u8]) -> Option<ModelId> {
    Some(ModelId {
        task: read_task(key)?,
        version: small(key.get(8..12)?)?,
    })
}

pub(super) fn read_relation(key: &[u8]) -> Option<(TaskId, TaskId)> {
    Some((read_task(key)?, read_task(key.get(8..)?)?))
}

pub(super) fn read_donor(key: &[u8]) -> Option<(TaskId, u64)> {
    Some((read_task(key)?, number(key.get(8..16)?)?))
}

pub(super) fn read_stage(key: &[u8]) -> Option<(ModelId, StageKind)> {
    let kind = match key.get(12)? {
        0 => StageKind::Train,
        1 => StageKind::Evaluate,
        2 => StageKind::Deploy,
        _ => return None,
    };
    Some((read_model(key)?, kind))
}
