//! The link between cloud and edges: the cloud publishes what answers, an edge takes it in and shares what its policy says.
//! Neither waits for it: what cannot be sent yet is tried again, and an edge goes on with what it has.

mod canary;
pub mod follow;
pub mod outbox;
pub mod publish;
pub mod send;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use perennial_connectors::knowledge_base::{KnowledgeBase, SCHEMA};
use perennial_connectors::link::{
    LinkError, ModelStore, VerifyingKey, schema_hash, signing_key, verifying_key,
};
use perennial_operators::share::{Pseudonyms, SharePolicy};

use self::follow::LinkInbox;
use self::outbox::{Outbox, Underway};
use crate::committer::Committed;
use crate::config::{LinkConfig, Role, Settings};
use crate::error::Error;
use crate::learning::Workshop;

/// At an edge that trains models of its own, theirs are the versions after this one, and those before the cloud's.
pub const OTHERS: u32 = 1 << 20;

/// By what name a donation of the cloud's goes, at an edge that has a model of its own.
pub const CLOUD: &str = "the cloud";

/// Samples are shared in changes of about so many bytes, and a message has as many bytes of changes, or one change.
const CHANGE: usize = 1 << 20;

/// The fewest bytes of a secret: others could be tried out.
const LEAST_SECRET: usize = 16;

/// How long to wait before what failed is tried again, and for what may come.
const PAUSE: Duration = Duration::from_millis(500);
const GLANCE: Duration = Duration::from_millis(100);

/// How long a run with nothing else to do waits for something to arrive.
const LAST: Duration = Duration::from_secs(60);

/// By what cloud and edges tell that they have the same schema.
pub fn schema(settings: &Settings) -> String {
    let parts = settings.fingerprint();
    let schema = parts.into_iter().find(|(name, _)| name == SCHEMA);
    schema_hash(&schema.map(|(_, schema)| schema).unwrap_or_default())
}

/// The keys by which the cloud knows its edges.
pub fn edge_keys(link: &LinkConfig) -> Result<BTreeMap<String, VerifyingKey>, Error> {
    let key = |(edge, path): (&String, &std::path::PathBuf)| {
        let key = verifying_key(path)?;
        Ok((edge.clone(), key))
    };
    link.edges.iter().map(key).collect()
}

/// What is shared, if anything is, with the secret that pseudonyms are made with.
pub fn policy(settings: &Settings) -> Result<Option<SharePolicy>, Error> {
    let Some(mut policy) = settings.share.clone() else {
        return Ok(None);
    };
    if let Some(path) = &settings.config().share.secret {
        let secret = std::fs::read(path).map_err(|error| Error::File(path.clone(), error))?;
        if secret.len() < LEAST_SECRET {
            let reason =
                format!("expected {LEAST_SECRET} bytes or more (openssl rand -out FILE 32)");
            let path = path.display().to_string();
            return Err(LinkError::KeyFile { path, reason }.into());
        }
        policy.pseudonyms = Some(Pseudonyms::new(&secret));
    }
    Ok(Some(policy))
}

/// This process's ends of the link, by the part that it plays: none if all is local.
pub struct Ends<'a> {
    settings: &'a Settings,
    link: Option<&'a LinkConfig>,
    role: Role,
    underway: Arc<Underway>,
}

impl<'a> Ends<'a> {
    /// Those of a config.
    pub fn new(settings: &'a Settings) -> Self {
        let config = settings.config();
        Ends {
            settings,
            link: config.link.as_ref(),
            role: config.role,
            underway: Arc::default(),
        }
    }

    /// Whether models are trained here.
    pub fn trains(&self) -> bool {
        let trains = self.link.is_some_and(|link| link.train);
        self.role != Role::Edge || trains
    }

    /// Reads the keys, so that one that cannot be used is told at once, and makes the topic of what edges share, which the
    /// cloud reads from the beginning.
    pub fn prepare(&self) -> Result<(), Error> {
        let Some(link) = self.link else { return Ok(()) };
        edge_keys(link)?;
        link.sign.as_deref().map(signing_key).transpose()?;
        link.verify.as_deref().map(verifying_key).transpose()?;
        match self.role {
            Role::Cloud => publish::prepare(link),
            Role::Local | Role::Edge => Ok(()),
        }
    }

    /// An edge's outbox, if it shares anything.
    pub fn outbox(&self, knowledge: &KnowledgeBase) -> Result<Option<Outbox>, Error> {
        match (self.role, self.link) {
            (Role::Edge, Some(link)) => {
                Outbox::open(self.settings, link, knowledge, self.underway.clone())
            }
            _ => Ok(None),
        }
    }

    /// An edge's end of what comes down.
    pub fn follow(
        &self,
        knowledge: &Arc<KnowledgeBase>,
        committed: &Arc<Committed>,
        stop: &Arc<AtomicBool>,
    ) -> Result<Option<(LinkInbox, JoinHandle<()>)>, Error> {
        let (Role::Edge, Some(link)) = (self.role, self.link) else {
            return Ok(None);
        };
        let (knowledge, committed) = (knowledge.clone(), committed.clone());
        follow::follow(self.settings, link, knowledge, committed, stop.clone()).map(Some)
    }

    /// In the cloud, what judges models that some edges have first.
    pub fn canary(
        &self,
        workshop: &Arc<Workshop>,
        stop: &Arc<AtomicBool>,
    ) -> Option<(LinkInbox, JoinHandle<()>)> {
        let canary = self.link?.canary.clone()?;
        Some(canary::judge(workshop.clone(), canary, stop.clone()))
    }

    /// What sends: what the cloud knows goes down, what an edge shares up.
    pub fn outgoing(
        &self,
        knowledge: &Arc<KnowledgeBase>,
        committed: &Arc<Committed>,
    ) -> Result<Option<Outgoing>, Error> {
        let (settings, knowledge) = (self.settings, knowledge.clone());
        match (self.role, self.link) {
            (Role::Cloud, Some(link)) => {
                publish::publish(settings, link, knowledge, committed.clone()).map(Some)
            }
            (Role::Edge, Some(link)) if settings.share.is_some() => {
                send::send(settings, link, knowledge, self.underway.clone()).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Sends what a run that is over has left in the outbox, until all has arrived, nothing does any more, or `stop` is set.
    pub fn send_rest(
        &self,
        knowledge: &Arc<KnowledgeBase>,
        stop: &AtomicBool,
    ) -> Result<(), Error> {
        let (Role::Edge, Some(link), Some(_)) = (self.role, self.link, &self.settings.share) else {
            return Ok(());
        };
        self.prepare()?;
        self.settle(knowledge)?;
        let waiting = knowledge.view().outbox_sizes()?;
        let Some((last, _)) = waiting.last_key_value() else {
            return Ok(());
        };
        let changes = waiting.len();
        tracing::info!(changes, "sending what waits in the outbox");
        let outgoing = send::send(
            self.settings,
            link,
            knowledge.clone(),
            self.underway.clone(),
        )?;
        let (mut sent, mut moved) = (0, Instant::now());
        while sent <= *last && moved.elapsed() < LAST && !stop.load(Ordering::SeqCst) {
            std::thread::sleep(GLANCE);
            if sent != self.underway.sent() {
                (sent, moved) = (self.underway.sent(), Instant::now());
            }
        }
        outgoing.finish();
        self.settle(knowledge)?;
        self.tell_waiting(knowledge)
    }

    /// Remembers what has arrived since the last commit of a run that is over, and sheds what may leave no longer, before anything is
    /// sent.
    pub fn settle(&self, knowledge: &KnowledgeBase) -> Result<(), Error> {
        // A crash has left it open what the last commit is.
        if knowledge.prepared()?.is_some() {
            return Ok(());
        }
        let mut progress = knowledge.view().progress()?;
        let write = match self.outbox(knowledge)? {
            Some(mut outbox) if outbox.has_news() || outbox.has_forbidden() => {
                outbox.take(&mut [], &mut progress.outbox)?
            }
            None if progress.outbox.waiting > 0 => {
                outbox::shed_all(&knowledge.view(), &mut progress.outbox)?
            }
            _ => return Ok(()),
        };
        Ok(knowledge.commit(&[], &progress, &write)?)
    }

    /// Says so if a run that is over leaves something in the outbox.
    pub fn tell_waiting(&self, knowledge: &KnowledgeBase) -> Result<(), Error> {
        let waiting = knowledge.view().progress()?.outbox.waiting;
        if waiting > 0 {
            tracing::warn!(
                changes = waiting,
                "not all that is shared has arrived: the next run sends what waits in the outbox"
            );
        }
        Ok(())
    }
}

/// Where large models are, if anywhere.
pub fn open_store(link: &LinkConfig) -> Result<Option<ModelStore>, Error> {
    Ok(link.store.as_ref().map(ModelStore::open).transpose()?)
}

/// The file of a key that the config's check has found there.
fn key_file(path: &Option<std::path::PathBuf>) -> &Path {
    path.as_deref().unwrap_or(Path::new(""))
}

/// Tells why something is tried again, once for each reason.
#[derive(Default)]
struct Trouble(String);

impl Trouble {
    fn tell(&mut self, error: &Error) {
        let reason = error.to_string();
        if self.0 != reason {
            tracing::warn!("the cloud is not reached, and is tried again: {reason}");
            self.0 = reason;
        }
    }

    fn is_known(&self) -> bool {
        !self.0.is_empty()
    }
}

/// A thread that sends what is committed, and ends when all of it is sent or cannot be.
pub struct Outgoing {
    thread: JoinHandle<()>,
    finishing: Arc<AtomicBool>,
}

impl Outgoing {
    /// Starts it. `work` is called again and again, at last with true; it is also told how to find out meanwhile that the run is over.
    fn start(mut work: impl FnMut(bool, &dyn Fn() -> bool) + Send + 'static) -> Outgoing {
        let finishing = Arc::new(AtomicBool::new(false));
        let is_finishing = finishing.clone();
        let thread = std::thread::spawn(move || {
            let is_over = || is_finishing.load(Ordering::SeqCst);
            loop {
                let is_last = is_over();
                work(is_last, &is_over);
                if is_last {
                    return;
                }
            }
        });
        Outgoing { thread, finishing }
    }

    /// Sends what is left, and ends.
    pub fn finish(self) {
        self.finishing.store(true, Ordering::SeqCst);
        // A panic has ended the process already.
        let _ = self.thread.join();
    }
}
