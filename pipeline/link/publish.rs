//! The cloud publishes each task, and the model that answers for it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use perennial_connectors::kafka::Health;
use perennial_connectors::knowledge_base::{
    DonatedRecord, KnowledgeBase, ModelRecord, TaskRecord, View,
};
use perennial_connectors::link::{
    LinkError, Published, PublishedModel, Publisher, make_topic, now, signing_key,
};
use perennial_operators::flow::{ModelDonated, Revision};
use perennial_operators::{ModelId, TaskDefinition, TaskId};

use super::common::{GLANCE, PAUSE};
use super::common::{key_file, open_store, schema};
use super::send_thread::SendThread;
use crate::config::{LinkConfig, Settings};
use crate::error::Error;
use crate::run_status::CommitWatch;

/// Partitions of the topic of changes, over which edges are spread.
const PARTITIONS: i32 = 8;

/// Makes the topic of what edges share, if it is not there.
pub fn prepare(link: &LinkConfig) -> Result<(), Error> {
    Ok(make_topic(&link.kafka, &link.changes, PARTITIONS, false)?)
}

/// Publishes what answers, from what the knowledge base has now on, on a thread of its own.
pub fn publish(
    settings: &Settings,
    link: &LinkConfig,
    knowledge: Arc<KnowledgeBase>,
    committed: Arc<CommitWatch>,
) -> Result<SendThread, Error> {
    let key = signing_key(key_file(&link.sign))?;
    let store = open_store(link)?;
    let (kafka, topic) = (&link.kafka, &link.knowledge);
    let publisher = Publisher::open(kafka, topic, key, store, &Health::default())?;
    let schema = schema(settings);
    let canary = link.canary.clone();
    let (mut sent, mut seen) = (BTreeMap::new(), None);
    Ok(SendThread::start(move |is_last, is_over| {
        // What there is to publish is read after how much it is, so that nothing is missed.
        let publications = committed.status().publications;
        if seen == Some(publications) {
            if !is_last {
                committed.wait_for_publication(seen, GLANCE);
            }
            return;
        }
        let publish = |mut published: Published| publisher.publish(&mut published, is_over);
        let first = canary.as_ref().map_or(&[][..], |canary| &canary.edges);
        match publish_new(publish, &knowledge, &schema, first, &mut sent) {
            Ok(true) => seen = Some(publications),
            // It is tried again.
            Ok(false) => std::thread::sleep(PAUSE),
            Err(error) => {
                tracing::error!("what was learned cannot be published: {error}");
                std::thread::sleep(PAUSE);
            }
        }
    }))
}

/// Publishes the tasks of which something else answers than was published, and what edges have donated since; whether all has
/// arrived. `publish` says so of each. The edges in `first`, if there are any, get models first that replace others.
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
        match arrives(publish(published), *task)? {
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
        let published = publish(donated(&view, schema, revision, record)?);
        if arrives(published, subject.0)? == Arrival::NotYet {
            return Ok(false);
        }
        sent.insert(subject, revision);
    }
    Ok(true)
}

/// What becomes of what is published.
#[derive(Clone, Copy, PartialEq)]
enum Arrival {
    Done,
    /// It is to be tried again.
    NotYet,
    /// Edges go on with what they have.
    Never,
}

fn arrives(published: Result<bool, LinkError>, task: TaskId) -> Result<Arrival, Error> {
    match published {
        Ok(true) => Ok(Arrival::Done),
        Ok(false) => Ok(Arrival::NotYet),
        Err(error @ LinkError::TooLarge { .. }) => {
            tracing::error!(%task, "what was learned is not published: {error}");
            Ok(Arrival::Never)
        }
        Err(error) => Err(error.into()),
    }
}

/// What an edge has donated, for the others.
fn donated(
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

/// The model of a task if it has replaced another, and it was not found yet that it may answer for all.
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

/// The tasks from the base task down to this one.
fn path(tasks: &BTreeMap<TaskId, TaskRecord>, task: TaskId) -> Vec<TaskDefinition> {
    let mut path = VecDeque::new();
    let mut current = Some(task);
    while let Some(record) = current.and_then(|task| tasks.get(&task)) {
        path.push_front(record.definition.clone());
        current = record.definition.parent;
    }
    path.into()
}

fn model(
    view: &View<'_>,
    task: TaskId,
    record: &TaskRecord,
) -> Result<Option<PublishedModel>, Error> {
    let Some(version) = record.deployed else {
        return Ok(None);
    };
    let model = ModelId { task, version };
    let Some(known) = view.model(model)? else {
        return Ok(None);
    };
    Ok(Some(PublishedModel {
        model,
        trained: known.trained,
        evaluated: known.evaluated,
        onnx: view.onnx(model)?,
        is_stored: false,
    }))
}
