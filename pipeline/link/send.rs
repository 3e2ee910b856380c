//! Sending: an edge sends the changes that wait in its outbox, in order.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use perennial_connectors::kafka::OutageCount;
use perennial_connectors::knowledge_base::{Incarnation, KnowledgeBase};
use perennial_connectors::link::{
    Change, Changes, Lineage, LinkError, Sender, SigningKey, now, signing_key,
};

use super::common::{MESSAGE_BYTES, POLL, RETRY_PAUSE, key_file, open_store, schema};
use super::outbox::SendProgress;
use super::send_thread::SendThread;
use crate::config::{LinkConfig, Settings};
use crate::error::Error;

/// How long changes are collected for the next message.
const LINGER: Duration = Duration::from_millis(500);

/// How long a run that is over tries to reach the cloud's Kafka.
const LAST: Duration = Duration::from_secs(5);

/// Starts a thread that sends the changes that have not arrived yet, and keeps `send_progress` up
/// to date.
pub fn send(
    settings: &Settings,
    link: &LinkConfig,
    knowledge: Arc<KnowledgeBase>,
    send_progress: Arc<SendProgress>,
) -> Result<SendThread, Error> {
    let key = signing_key(key_file(&link.sign))?;
    let link = link.clone();
    let edge = settings.config().name.clone();
    let schema = schema(settings);
    // A store that cannot be opened is an error now, not a retry later.
    open_store(&link)?;
    let mut connection: Option<Sender> = None;
    let mut sent_at: Option<Instant> = None;
    let (outage, refusals) = (OutageCount::default(), OutageCount::default());
    Ok(SendThread::start(move |is_last, is_over| {
        let sender = match &mut connection {
            Some(sender) => sender,
            // The cloud could not be reached a moment ago.
            None if is_last && outage.lasts() => return,
            None => match open(&link, &key, is_over) {
                Ok(sender) => {
                    outage.ends("the cloud's Kafka is reached");
                    connection.insert(sender)
                }
                Err(error) => {
                    if outage.begins() {
                        tracing::warn!("cannot reach the cloud's Kafka; retrying: {error}");
                    }
                    return std::thread::sleep(RETRY_PAUSE);
                }
            },
        };
        let lingers = sent_at.is_some_and(|at| at.elapsed() < LINGER);
        if lingers && !is_last {
            return std::thread::sleep(POLL);
        }
        let message = Changes {
            edge: edge.clone(),
            since: knowledge.since(),
            schema: schema.clone(),
            sent: now(),
            shed: 0,
            changes: Vec::new(),
            lineage: None,
        };
        let send = |message: &mut Changes| sender.send(message, is_over);
        match send_all(send, &knowledge, message, &send_progress) {
            Ok(true) => {
                refusals.ends("changes are sent");
                sent_at = Some(Instant::now());
            }
            // What has not arrived is sent by the next call.
            Ok(false) => std::thread::sleep(RETRY_PAUSE),
            Err(error) => {
                if refusals.begins() {
                    tracing::error!("cannot send changes to the cloud; retrying: {error}");
                }
                std::thread::sleep(RETRY_PAUSE);
            }
        }
        if !is_last {
            std::thread::sleep(POLL);
        }
    }))
}

fn open(link: &LinkConfig, key: &SigningKey, is_over: &dyn Fn() -> bool) -> Result<Sender, Error> {
    let store = open_store(link)?;
    let (kafka, topic) = (&link.kafka, &link.changes);
    let began = Instant::now();
    let gives_up = || is_over() && began.elapsed() > LAST;
    Ok(Sender::open(kafka, topic, key.clone(), store, &gives_up)?)
}

/// Sends all changes that wait, in messages like `message`. Returns whether all have arrived;
/// `send` returns so of one message, and removes changes from it that the topic does not take.
pub fn send_all(
    mut send: impl FnMut(&mut Changes) -> Result<bool, LinkError>,
    knowledge: &KnowledgeBase,
    mut message: Changes,
    send_progress: &SendProgress,
) -> Result<bool, Error> {
    loop {
        let view = knowledge.view();
        let mut waiting = view.outbox(send_progress.sent(), MESSAGE_BYTES)?;
        let Some((first, _)) = waiting.first() else {
            return Ok(true);
        };
        let (origin, end) = origin(&view.incarnations()?, *first);
        message.lineage = Some(Lineage {
            follows: view.shared_before(*first, |number| send_progress.is_refused(number))?,
            ..origin
        });
        waiting.retain(|(number, _)| *number < end);
        let numbers: Vec<u64> = waiting.iter().map(|(number, _)| *number).collect();
        let next = numbers.last().map_or(0, |last| last + 1);
        message.shed = view.progress()?.outbox.shed_samples;
        message.changes = waiting
            .into_iter()
            .map(|(number, bytes)| {
                let change: Change = postcard::from_bytes(&bytes)?;
                Ok((number, change))
            })
            .collect::<Result<_, postcard::Error>>()
            .map_err(|error| Error::Failed(error.into()))?;
        send_progress.tried.fetch_max(next, Ordering::SeqCst);
        if !send(&mut message)? {
            return Ok(false);
        }
        // Those that the topic takes are left, in their order.
        let mut taken = message.changes.iter().map(|(number, _)| *number).peekable();
        for number in numbers {
            if taken.next_if_eq(&number).is_none() {
                send_progress.refuse(number);
            }
        }
        send_progress.sent.store(next, Ordering::SeqCst);
    }
}

/// The incarnation that made a change, and the number of the first change of the next one. A change
/// of before incarnations were noted is of incarnation 0.
fn origin(incarnations: &[Incarnation], change: u64) -> (Lineage, u64) {
    let later = incarnations.partition_point(|incarnation| incarnation.first <= change);
    let made = later.checked_sub(1).and_then(|at| incarnations.get(at));
    let end = incarnations.get(later).map_or(u64::MAX, |next| next.first);
    let lineage = Lineage {
        incarnation: made.map_or(0, |made| made.id),
        first: made.map_or(0, |made| made.first),
        follows: None,
    };
    (lineage, end)
}
