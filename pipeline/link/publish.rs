//! Publishing: the cloud publishes each task with its deployed model, and models that edges
//! donated.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use perennial_connectors::kafka::{Health, OutageCount};
use perennial_connectors::knowledge_base::{
    DonatedRecord, KnowledgeBase, ModelRecord, TaskRecord, View,
};
use perennial_connectors::link::{
    LinkError, Published, PublishedModel, Publisher, make_topic, now, signing_key,
};
use perennial_operators::flow::{ModelDonated, Revision};
use perennial_operators::{ModelId, TaskDefinition, TaskId};

use super::common::{POLL, RETRY_PAUSE, key_file, open_store, schema};
use super::send_thread::SendThread;
use crate::config::{LinkConfig, Settings};
use crate::error::Error;
use crate::run_status::CommitWatch;

/// Partitions of the topic of changes; edges are spread over them.
const PARTITIONS: i32 = 8;

/// Makes the topic of changes, which edges send to, if it does not exist.
pub fn prepare(link: &LinkConfig) -> Result<(), Error> {
    Ok(make_topic(&link.kafka, &link.changes, PARTITIONS, false)?)
}

/// Starts a thread that publishes all tasks of the knowledge base, and each one again that changes.
pub fn publish(
    settings: &Settings,
    link: &LinkConfig,
    knowledge: Arc<KnowledgeBase>,
    watch: Arc<CommitWatch>,
) -> Result<SendThread, Error> {
    let key = signing_key(key_file(&link.sign))?;
    let store = open_store(link)?;
    let (kafka, topic) = (&link.kafka, &link.knowledge);
    let publisher = Publisher::open(kafka, topic, key, store, &Health::default())?;
    let schema = schema(settings);
    let canary = link.canary.clone();
    let (mut sent, mut seen) = (BTreeMap::new(), None);
    let refusals = OutageCount::default();
    Ok(SendThread::start(move |is_last, is_over| {
        // The number is read before the knowledge base is: what is committed in between is
        // published twice rather than missed.
        let publications = watch.status().publications;
        if seen == Some(publications) {
            if !is_last {
                watch.wait_for_publication(seen, POLL);
            }
            return;
        }
        let publish = |mut published: Published| publisher.publish(&mut published, is_over);
        let first = canary.as_ref().map_or(&[][..], |canary| &canary.edges);
        match publish_new(publish, &knowledge, &schema, first, &mut sent) {
            Ok(true) => {
                refusals.ends("published");
                seen = Some(publications);
            }
            // What has not arrived is published by the next call.
            Ok(false) => std::thread::sleep(RETRY_PAUSE),
            Err(error) => {
                if refusals.begins() {
                    tracing::error!("cannot publish; retrying: {error}");
                }
                std::thread::sleep(RETRY_PAUSE);
            }
        }
    }))
}

/// Publishes tasks and donated models that have changed since they were last published, as `sent`
/// has it. Returns whether all have arrived; `publish` returns so of one.
///
/// A model that replaces another is published for the edges in `first` alone, until it is promoted.
/// With no edge in `first`, it is published for all.
pub fn publish_new(
    mut publish: impl FnMut(Published) -> Result<bool, LinkError>,
    knowledge: &KnowledgeBase,
    schema: &str,
    first: &[String],
    sent: &mut BTreeMap<(TaskId, u64), Revision>,
) -> Result<bool, Error> {
    let view = knowledge.view();
    let tasks = view.tasks()?;
    for (task, record) in &tasks {
        let Some(moved) = record.moved else { continue };
        let revision = Revision {
            since: knowledge.since(),
            number: moved.0 + 1,
        };
        if sent.get(&(*task, 0)) == Some(&revision) {
            continue;
        }
        let published = Published {
            schema: schema.to_string(),
            revision,
            sent: now(),
            path: path(&tasks, *task),
            donor: None,
            audience: match on_trial(&view, *task, record)? {
                Some(_) => first.to_vec(),
                None => Vec::new(),
            },
            deviations: match *task {
                TaskId::BASE => view.deviations()?,
                _ => None,
            },
            model: model(&view, *task, record)?,
        };
        match arrival(publish(published), *task)? {
            Arrival::NotYet => return Ok(false),
            Arrival::Done => tracing::info!(%task, number = revision.number, "published"),
            Arrival::Never => {}
        }
        sent.insert((*task, 0), revision);
    }
    for (subject, record) in view.donated()? {
        let revision = Revision {
            since: knowledge.since(),
            number: record.epoch.0 + 1,
        };
        if sent.get(&subject) == Some(&revision) {
            continue;
        }
        let result = publish(donation(&view, schema, revision, record)?);
        if arrival(result, subject.0)? == Arrival::NotYet {
            return Ok(false);
        }
        sent.insert(subject, revision);
    }
    Ok(true)
}

/// How publishing ended.
#[derive(Clone, Copy, PartialEq)]
enum Arrival {
    Done,
    /// It is to be tried again.
    NotYet,
    /// It is too large: edges keep what they have.
    Never,
}

fn arrival(result: Result<bool, LinkError>, task: TaskId) -> Result<Arrival, Error> {
    match result {
        Ok(true) => Ok(Arrival::Done),
        Ok(false) => Ok(Arrival::NotYet),
        Err(error @ LinkError::TooLarge { .. }) => {
            tracing::error!(%task, "not published: {error}");
            Ok(Arrival::Never)
        }
        Err(error) => Err(error.into()),
    }
}

/// A model that an edge donated, to be published for the others.
fn donation(
    view: &View<'_>,
    schema: &str,
    revision: Revision,
    record: DonatedRecord,
) -> Result<Published, Error> {
    let ModelDonated {
        donor,
        path,
        trained,
        evaluated,
    } = record.donated;
    let onnx = view.onnx_under(&trained.hash, &format!("a model of edge {donor}"))?;
    Ok(Published {
        schema: schema.to_string(),
        revision,
        sent: now(),
        path,
        donor: Some(donor.to_string()),
        audience: Vec::new(),
        deviations: None,
        model: Some(PublishedModel {
            model: trained.model,
            trained,
            evaluated,
            onnx,
            is_stored: false,
        }),
    })
}

/// The deployed model of a task, if it has replaced another one and is not promoted yet.
pub fn on_trial(
    view: &View<'_>,
    task: TaskId,
    record: &TaskRecord,
) -> Result<Option<ModelRecord>, Error> {
    let Some(version) = record.deployed else {
        return Ok(None);
    };
    let model = view.model(ModelId { task, version })?;
    Ok(model.filter(|model| model.replaced.is_some() && model.promoted.is_none()))
}

/// The tasks from the base task down to `task`.
fn path(tasks: &BTreeMap<TaskId, TaskRecord>, task: TaskId) -> Vec<TaskDefinition> {
    let mut path = VecDeque::new();
    let mut current = Some(task);
    while let Some(record) = current.and_then(|task| tasks.get(&task)) {
        path.push_front(record.definition.clone());
        current = record.definition.parent;
    }
    path.into()
}

/// The deployed model of a task, to be published.
fn model(
    view: &View<'_>,
    task: TaskId,
    record: &TaskRecord,
) -> Result<Option<PublishedModel>, Error> {
    let Some(version) = record.deployed else {
        return Ok(None);
    };
    let model = ModelId { task, version };
    let Some(stored) = view.model(model)? else {
        return Ok(None);
    };
    Ok(Some(PublishedModel {
        model,
        trained: stored.trained,
        evaluated: stored.evaluated,
        onnx: view.onnx(model)?,
        is_stored: false,
    }))
}
