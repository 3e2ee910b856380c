//! Publishing: the cloud publishes each task with its deployed model, and models that edges
//! donated.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use perennial_connectors::kafka::{Health, OutageCount};
use perennial_connectors::knowledge_base::{
    DonatedRecord, KnowledgeBase, ModelRecord, TaskRecord, View,
};
use perennial_connectors::link::{
    EdgeNotice, LinkError, Published, PublishedModel, PublishedRevisions, Publisher, VerifyingKey,
    make_topic, now, signing_key,
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

/// Time between two looks for something to tell edges.
const NOTICES_EVERY: Duration = Duration::from_secs(5);

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
    let verifying = key.verifying_key();
    let store = open_store(link)?;
    let (kafka, topic) = (&link.kafka, &link.knowledge);
    let publisher = Publisher::open(kafka, topic, key, store, &Health::default())?;
    let schema = schema(settings);
    let link = link.clone();
    let (mut read_back, mut seen) = (None, None);
    let (mut told, mut told_at) = (BTreeMap::new(), Instant::now());
    let refusals = OutageCount::default();
    Ok(SendThread::start(move |is_last, is_over| {
        if read_back.is_none() {
            match read(&link, &verifying, &knowledge, is_over) {
                Ok(found) => read_back = found,
                Err(error) => {
                    if refusals.begins() {
                        tracing::error!("cannot read what is published; retrying: {error}");
                    }
                    std::thread::sleep(RETRY_PAUSE);
                }
            }
        }
        let Some(ReadBack { sent, forgotten }) = &mut read_back else {
            return;
        };
        let remove = |key: &str| publisher.remove(key, is_over);
        if let Err(error) = remove_forgotten(remove, forgotten) {
            tracing::error!("cannot remove what was forgotten from the topic: {error}");
        }
        if told_at.elapsed() > NOTICES_EVERY || is_last {
            told_at = Instant::now();
            let tell = |notice: &EdgeNotice| publisher.tell(notice, is_over);
            if let Err(error) = tell_edges(tell, &knowledge, &mut told) {
                tracing::error!("cannot tell edges what is wrong: {error}");
            }
        }
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
        let canary = link.canary.as_ref();
        let first = canary.map_or(&[][..], |canary| &canary.edges);
        match publish_new(publish, &knowledge, &schema, first, sent) {
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

/// Revisions by task and number of the donor's name.
pub type SentRevisions = BTreeMap<(TaskId, u64), Revision>;

/// What a cloud does about the messages that it finds on its topic.
#[derive(Debug, Default)]
pub struct ReadBack {
    /// What need not be published again.
    pub sent: SentRevisions,
    /// Keys of messages about what was forgotten since, which are removed.
    pub forgotten: Vec<String>,
}

/// Reads what is on the topic. None if the run is over.
fn read(
    link: &LinkConfig,
    key: &VerifyingKey,
    knowledge: &KnowledgeBase,
    is_over: &dyn Fn() -> bool,
) -> Result<Option<ReadBack>, Error> {
    let found = PublishedRevisions::read(&link.kafka, &link.knowledge, key, is_over)?;
    found.map(|found| resume(knowledge, found)).transpose()
}

/// What to do about what was found on the topic. If that is later than the knowledge base, this is
/// a restored copy, whose revisions edges would take for old ones: they are numbered anew then.
pub fn resume(knowledge: &KnowledgeBase, found: PublishedRevisions) -> Result<ReadBack, Error> {
    let view = knowledge.view();
    let progress = view.progress()?;
    let latest = Revision {
        since: knowledge.revised(),
        number: progress.last_epoch().map_or(0, |epoch| epoch.0 + 1),
    };
    let (tasks, donated) = (view.tasks()?, view.donated()?);
    // A subject that was published from this knowledge base and is not in it was forgotten.
    let is_forgotten = |((task, donor), revision): &((TaskId, u64), Revision)| {
        let is_ours = revision.since == latest.since && *revision <= latest;
        let is_known = match donor {
            0 => tasks.contains_key(task),
            donor => donated.contains_key(&(*task, *donor)),
        };
        is_ours && !is_known
    };
    let messages = found.messages.into_iter();
    let forgotten = messages.filter(|(_, message)| is_forgotten(message));
    let forgotten = forgotten.map(|(key, _)| key).collect();
    if found.latest > latest {
        tracing::warn!(
            "the cloud's state is older than what it has published: it was restored from a copy. \
             Edges get all of its tasks again, in place of later ones"
        );
        knowledge.renew_revisions(now().max(found.latest.since + 1))?;
    }
    Ok(ReadBack {
        sent: found.last,
        forgotten,
    })
}

/// Removes messages about what was forgotten, so that edges which read the topic later do not take
/// it in.
fn remove_forgotten(
    remove: impl Fn(&str) -> Result<bool, LinkError>,
    forgotten: &mut Vec<String>,
) -> Result<(), LinkError> {
    while let Some(key) = forgotten.last() {
        if !remove(key)? {
            return Ok(());
        }
        tracing::info!(key, "removed a message about what was forgotten");
        forgotten.pop();
    }
    Ok(())
}

/// Tells edges what was wrong with what they shared, once each time that it happens.
fn tell_edges(
    tell: impl Fn(&EdgeNotice) -> Result<bool, LinkError>,
    knowledge: &KnowledgeBase,
    told: &mut BTreeMap<String, (u64, u64, u64)>,
) -> Result<(), Error> {
    for (edge, history) in knowledge.view().histories()? {
        let counts = (history.forks, history.renewals, history.lost);
        let notice = EdgeNotice::about(&edge, &history);
        if let Some(notice) = notice.filter(|_| told.get(&edge) != Some(&counts))
            && tell(&notice)?
        {
            told.insert(edge, counts);
        }
    }
    Ok(())
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
    sent: &mut SentRevisions,
) -> Result<bool, Error> {
    let view = knowledge.view();
    let tasks = view.tasks()?;
    for (task, record) in &tasks {
        let Some(moved) = record.moved else { continue };
        let revision = Revision {
            since: knowledge.revised(),
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
            since: knowledge.revised(),
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
    let onnx = view.donated_onnx(&record.donated)?;
    let ModelDonated {
        donor,
        path,
        trained,
        evaluated,
    } = record.donated;
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
