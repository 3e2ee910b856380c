//! Role of a process in the link: the cloud publishes, an edge subscribes and sends what its policy
//! lets leave. Neither waits for the other: what cannot be sent yet is tried again, and an edge
//! predicts with the models that it has.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use perennial_connectors::knowledge_base::KnowledgeBase;
use perennial_connectors::link::{signing_key, verifying_key};
use perennial_connectors::onnx::Runtime;

use super::common::{POLL, edge_rights};
use super::outbox::{Outbox, SendProgress};
use super::outcomes::LinkOutcomes;
use super::send_thread::SendThread;
use super::{canary, outbox, publish, send, subscribe};
use crate::config::{LinkConfig, Role, Settings};
use crate::error::Error;
use crate::learning::TrainingContext;
use crate::run_status::CommitWatch;

/// How long [`LinkRole::send_rest`] waits for the next change to arrive before it gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Parts of the link that a process runs, by its role: none if it is local.
pub struct LinkRole<'a> {
    settings: &'a Settings,
    link: Option<&'a LinkConfig>,
    role: Role,
    send_progress: Arc<SendProgress>,
}

impl<'a> LinkRole<'a> {
    /// The role that the settings name.
    pub fn new(settings: &'a Settings) -> Self {
        let config = settings.config();
        LinkRole {
            settings,
            link: config.link.as_ref(),
            role: config.role,
            send_progress: Arc::default(),
        }
    }

    /// Whether models are trained here.
    pub fn trains(&self) -> bool {
        self.role != Role::Edge || self.link.is_some_and(|link| link.train)
    }

    /// Reads the keys, so that one that cannot be used is an error at once.
    pub fn check_keys(&self) -> Result<(), Error> {
        let Some(link) = self.link else { return Ok(()) };
        edge_rights(link, &self.settings.schema)?;
        link.sign.as_deref().map(signing_key).transpose()?;
        link.verify.as_deref().map(verifying_key).transpose()?;
        Ok(())
    }

    /// In the cloud, makes the topic of changes, which it reads from the beginning.
    pub fn prepare(&self) -> Result<(), Error> {
        match (self.role, self.link) {
            (Role::Cloud, Some(link)) => publish::prepare(link),
            _ => Ok(()),
        }
    }

    /// An edge's outbox, if it shares anything.
    pub fn outbox(&self, knowledge: &KnowledgeBase) -> Result<Option<Outbox>, Error> {
        match (self.role, self.link) {
            (Role::Edge, Some(link)) => {
                Outbox::open(self.settings, link, knowledge, self.send_progress.clone())
            }
            _ => Ok(None),
        }
    }

    /// Subscribes an edge to what the cloud publishes: the queue of updates, and the thread that
    /// fills it.
    pub fn subscribe(
        &self,
        knowledge: &Arc<KnowledgeBase>,
        watch: &Arc<CommitWatch>,
        runtime: &Runtime,
        stop: &Arc<AtomicBool>,
    ) -> Result<Option<(LinkOutcomes, JoinHandle<()>)>, Error> {
        let (Role::Edge, Some(link)) = (self.role, self.link) else {
            return Ok(None);
        };
        let (knowledge, watch, runtime) = (knowledge.clone(), watch.clone(), runtime.clone());
        let subscribed =
            subscribe::subscribe(self.settings, link, knowledge, watch, runtime, stop.clone());
        subscribed.map(Some)
    }

    /// Judges canaries in a cloud that has any: the queue of verdicts, and the thread that fills
    /// it.
    pub fn canary(
        &self,
        context: &Arc<TrainingContext>,
        stop: &Arc<AtomicBool>,
    ) -> Option<(LinkOutcomes, JoinHandle<()>)> {
        let canary = self.link?.canary.clone()?;
        Some(canary::judge(context.clone(), canary, stop.clone()))
    }

    /// The thread by which the cloud publishes, or an edge sends its changes.
    pub fn send_thread(
        &self,
        knowledge: &Arc<KnowledgeBase>,
        watch: &Arc<CommitWatch>,
    ) -> Result<Option<SendThread>, Error> {
        let (settings, knowledge) = (self.settings, knowledge.clone());
        match (self.role, self.link) {
            (Role::Cloud, Some(link)) => {
                publish::publish(settings, link, knowledge, watch.clone()).map(Some)
            }
            (Role::Edge, Some(link)) if settings.share.is_some() => {
                send::send(settings, link, knowledge, self.send_progress.clone()).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Sends what a finished run has left in the outbox, until all has arrived, nothing arrives for
    /// a minute, or `stop` is set.
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
        let thread = send::send(
            self.settings,
            link,
            knowledge.clone(),
            self.send_progress.clone(),
        )?;
        let (mut sent, mut moved) = (0, Instant::now());
        while sent <= *last && moved.elapsed() < PATIENCE && !stop.load(Ordering::SeqCst) {
            std::thread::sleep(POLL);
            if sent != self.send_progress.sent() {
                (sent, moved) = (self.send_progress.sent(), Instant::now());
            }
        }
        thread.finish();
        self.settle(knowledge)?;
        self.warn_waiting(knowledge)
    }

    /// Commits what has arrived since the last commit, and sheds changes that the policy no longer
    /// lets leave. It is called before anything is sent, and after the threads of a run have ended.
    pub fn settle(&self, knowledge: &KnowledgeBase) -> Result<(), Error> {
        // After a crash it may be open whether the last commit counts.
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

    /// Warns if a run that is over leaves something in the outbox.
    pub fn warn_waiting(&self, knowledge: &KnowledgeBase) -> Result<(), Error> {
        let waiting = knowledge.view().progress()?.outbox.waiting;
        if waiting > 0 {
            tracing::warn!(
                changes = waiting,
                "the outbox still has changes that have not arrived; the next run sends them"
            );
        }
        Ok(())
    }
}
