//! The cloud publishes each task, and the model that answers for it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use perennial_connectors::kafka::Health;
use perennial_connectors::knowledge_base::{KnowledgeBase, TaskRecord, View};
use perennial_connectors::link::{
    Published, PublishedModel, Publisher, make_topic, now, signing_key,
};
use perennial_operators::{ModelId, Revision, TaskDefinition, TaskId};

use super::{GLANCE, Outgoing, PAUSE, key_file, schema};
use crate::committer::Committed;
use crate::config::{LinkConfig, Settings};
use crate::error::Error;

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
    committed: Arc<Committed>,
) -> Result<Outgoing, Error> {
    let key = signing_key(key_file(&link.sign))?;
    let publisher = Publisher::open(&link.kafka, &link.knowledge, key, &Health::default())?;
    let schema = schema(settings);
    let (mut sent, mut seen) = (BTreeMap::new(), None);
    Ok(Outgoing::start(move |is_last| {
        let deployments = committed.status().deployments;
        match publish_new(&publisher, &knowledge, &schema, &mut sent) {
            Ok(true) => seen = Some(deployments),
            // It is tried again.
            Ok(false) => std::thread::sleep(PAUSE),
            Err(error) => {
                tracing::error!("what was learned cannot be published: {error}");
                std::thread::sleep(PAUSE);
            }
        }
        if !is_last {
            committed.wait_for_deployment(seen, GLANCE);
        }
    }))
}

/// Publishes the tasks of which something else answers than was published; whether all has arrived.
fn publish_new(
    publisher: &Publisher,
    knowledge: &KnowledgeBase,
    schema: &str,
    sent: &mut BTreeMap<TaskId, Revision>,
) -> Result<bool, Error> {
    let view = knowledge.view();
    let tasks = view.tasks()?;
    for (task, record) in &tasks {
        let Some(moved) = record.moved else { continue };
        let revision = Revision {
            since: knowledge.since(),
            number: moved.0 + 1,
        };
        if sent.get(task) == Some(&revision) {
            continue;
        }
        let published = Published {
            schema: schema.to_string(),
            revision,
            sent: now(),
            path: path(&tasks, *task),
            model: model(&view, *task, record)?,
        };
        if !publisher.publish(*task, &published)? {
            return Ok(false);
        }
        tracing::info!(%task, number = revision.number, "published");
        sent.insert(*task, revision);
    }
    Ok(true)
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
    }))
}
