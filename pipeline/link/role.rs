//! The link between cloud and edges: the cloud publishes what answers, an edge takes it in and shares what its policy says.
//! Neither waits for it: what cannot be sent yet is tried again, and an edge goes on with what it has.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use perennial_connectors::knowledge_base::KnowledgeBase;
use perennial_connectors::link::{signing_key, verifying_key};

use super::common::{GLANCE, LAST, edge_keys};
use super::inbox::LinkInbox;
use super::outbox::{Outbox, SendProgress};
use super::send_thread::SendThread;
use super::{canary, outbox, publish, send, subscribe};
use crate::config::{LinkConfig, Role, Settings};
use crate::error::Error;
use crate::learning::TrainingContext;
use crate::run_status::CommitWatch;

/// This process's ends of the link, by the part that it plays: none if all is local.
pub struct LinkRole<'a> {
    settings: &'a Settings,
    link: Option<&'a LinkConfig>,
    role: Role,
    underway: Arc<SendProgress>,
}

impl<'a> LinkRole<'a> {
    /// Those of a config.
    pub fn new(settings: &'a Settings) -> Self {
        let config = settings.config();
        LinkRole {
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
        committed: &Arc<CommitWatch>,
        stop: &Arc<AtomicBool>,
    ) -> Result<Option<(LinkInbox, JoinHandle<()>)>, Error> {
        let (Role::Edge, Some(link)) = (self.role, self.link) else {
            return Ok(None);
        };
        let (knowledge, committed) = (knowledge.clone(), committed.clone());
        subscribe::subscribe(self.settings, link, knowledge, committed, stop.clone()).map(Some)
    }

    /// In the cloud, what judges models that some edges have first.
    pub fn canary(
        &self,
        workshop: &Arc<TrainingContext>,
        stop: &Arc<AtomicBool>,
    ) -> Option<(LinkInbox, JoinHandle<()>)> {
        let canary = self.link?.canary.clone()?;
        Some(canary::judge(workshop.clone(), canary, stop.clone()))
    }

    /// What sends: what the cloud knows goes down, what an edge shares up.
    pub fn outgoing(
        &self,
        knowledge: &Arc<KnowledgeBase>,
        committed: &Arc<CommitWatch>,
    ) -> Result<Option<SendThread>, Error> {
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
