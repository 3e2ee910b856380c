//! An edge sends what waits in its outbox, in order.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use perennial_connectors::kafka::Health;
use perennial_connectors::knowledge_base::KnowledgeBase;
use perennial_connectors::link::{
    Change, Changes, LinkError, Sender, SigningKey, now, signing_key,
};

use super::common::{CHANGE, GLANCE, PAUSE};
use super::common::{RetryLog, key_file, open_store, schema};
use super::outbox::SendProgress;
use super::send_thread::SendThread;
use crate::config::{LinkConfig, Settings};
use crate::error::Error;

/// How long changes are waited for that go with the same message.
const LINGER: Duration = Duration::from_millis(500);

/// Sends what waits, from what has not arrived on, on a thread of its own. `underway` is told how far that is.
pub fn send(
    settings: &Settings,
    link: &LinkConfig,
    knowledge: Arc<KnowledgeBase>,
    underway: Arc<SendProgress>,
) -> Result<SendThread, Error> {
    let key = signing_key(key_file(&link.sign))?;
    let link = link.clone();
    let edge = settings.config().name.clone();
    let schema = schema(settings);
    // What cannot be a store is told at once.
    open_store(&link)?;
    let (mut sender, mut sent_at) = (None, None::<Instant>);
    let mut trouble = RetryLog::default();
    Ok(SendThread::start(move |is_last, is_over| {
        let end = match &mut sender {
            Some(end) => end,
            // It was tried a moment ago.
            None if is_last && trouble.is_known() => return,
            None => match open(&link, &key) {
                Ok(opened) => sender.insert(opened),
                Err(error) => {
                    trouble.tell(&error);
                    return std::thread::sleep(PAUSE);
                }
            },
        };
        let lingers = sent_at.is_some_and(|at| at.elapsed() < LINGER);
        if lingers && !is_last {
            return std::thread::sleep(GLANCE);
        }
        let message = Changes {
            edge: edge.clone(),
            since: knowledge.since(),
            schema: schema.clone(),
            sent: now(),
            shed: 0,
            changes: Vec::new(),
        };
        let send = |message: &mut Changes| end.send(message, is_over);
        match send_all(send, &knowledge, message, &underway) {
            Ok(true) => sent_at = Some(Instant::now()),
            // It is tried again.
            Ok(false) => std::thread::sleep(PAUSE),
            Err(error) => {
                tracing::error!("what is shared cannot be sent: {error}");
                std::thread::sleep(PAUSE);
            }
        }
        if !is_last {
            std::thread::sleep(GLANCE);
        }
    }))
}

fn open(link: &LinkConfig, key: &SigningKey) -> Result<Sender, Error> {
    let store = open_store(link)?;
    let (kafka, topic) = (&link.kafka, &link.changes);
    Ok(Sender::open(
        kafka,
        topic,
        key.clone(),
        store,
        &Health::default(),
    )?)
}

/// Sends all that waits, in messages like this one; whether it has arrived. `send` says so of each.
pub fn send_all(
    mut send: impl FnMut(&mut Changes) -> Result<bool, LinkError>,
    knowledge: &KnowledgeBase,
    mut message: Changes,
    underway: &SendProgress,
) -> Result<bool, Error> {
    loop {
        let view = knowledge.view();
        let waiting = view.outbox(underway.sent(), CHANGE)?;
        let Some((last, _)) = waiting.last() else {
            return Ok(true);
        };
        let next = last + 1;
        message.shed = view.progress()?.outbox.shed_samples;
        message.changes = waiting
            .into_iter()
            .map(|(number, bytes)| {
                let change = postcard::from_bytes::<Change>(&bytes);
                change.map(|change| (number, change))
            })
            .collect::<Result<_, _>>()
            .map_err(|error| Error::Failed(error.into()))?;
        underway.tried.fetch_max(next, Ordering::SeqCst);
        if !send(&mut message)? {
            return Ok(false);
        }
        underway.sent.store(next, Ordering::SeqCst);
    }
}
