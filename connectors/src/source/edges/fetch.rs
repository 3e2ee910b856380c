//! Fetching of large models beside the reader: a thread asks the object store for the models of
//! messages, again and again while they may still come.

use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};

use super::rights::SignedChanges;
use crate::link::{LinkError, ModelStore, fetch};

/// How long a store that cannot be reached is asked for a model.
const STORE_PATIENCE: Duration = Duration::from_secs(600);
/// How long a store that answers, but lacks a model, is asked for it. An edge stores a model before
/// it sends the message, so only a copy of the store can be late.
const MODEL_PATIENCE: Duration = Duration::from_secs(10);
/// Time between two attempts to fetch a model.
const PAUSE: Duration = Duration::from_secs(1);

/// A message whose models are fetched.
pub(super) struct FetchJob {
    /// Number by which the message is found again.
    pub ticket: u64,
    pub message: SignedChanges,
}

/// A thread that fetches models. It ends when the fetcher is dropped.
pub(super) struct ModelFetcher {
    /// Unbounded, since the reader bounds the bytes of all messages that wait.
    jobs: Sender<FetchJob>,
    /// Unbounded too: it holds no more than what was sent to `jobs`.
    done: Receiver<FetchJob>,
}

impl ModelFetcher {
    pub(super) fn start(store: ModelStore) -> ModelFetcher {
        let (jobs, coming) = unbounded();
        let (finished, done) = unbounded();
        std::thread::spawn(move || work(&store, &coming, &finished));
        ModelFetcher { jobs, done }
    }

    /// Fetches the models of a message.
    pub(super) fn fetch(&self, job: FetchJob) {
        // The thread ends after this sender only.
        let _ = self.jobs.send(job);
    }

    /// Takes a message that has all of its models, or whose missing ones were refused.
    pub(super) fn take_done(&self) -> Option<FetchJob> {
        self.done.try_recv().ok()
    }
}

/// A job that is tried again.
struct Attempt {
    job: FetchJob,
    began: Instant,
    /// When to try it again.
    again: Instant,
    is_told: bool,
}

fn work(store: &ModelStore, coming: &Receiver<FetchJob>, finished: &Sender<FetchJob>) {
    let mut attempts: Vec<Attempt> = Vec::new();
    loop {
        let next = attempts.iter().map(|attempt| attempt.again).min();
        let wait = next.map_or(STORE_PATIENCE, |next| {
            next.saturating_duration_since(Instant::now())
        });
        match coming.recv_timeout(wait) {
            Ok(job) => attempts.push(Attempt {
                job,
                began: Instant::now(),
                again: Instant::now(),
                is_told: false,
            }),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let now = Instant::now();
        let (due, later): (Vec<Attempt>, Vec<Attempt>) = attempts
            .into_iter()
            .partition(|attempt| attempt.again <= now);
        attempts = later;
        for mut attempt in due {
            if attempt.is_done(store) {
                // The reader has ended if nobody listens.
                let _ = finished.send(attempt.job);
            } else {
                attempt.again = Instant::now() + PAUSE;
                attempts.push(attempt);
            }
        }
    }
}

impl Attempt {
    /// Tries to fetch the models. Whether none is missing; one that does not come is refused.
    fn is_done(&mut self, store: &ModelStore) -> bool {
        let waited = self.began.elapsed();
        let is_hopeless = |error: &LinkError| match error {
            LinkError::Missing { .. } => waited >= MODEL_PATIENCE,
            error => !error.is_transient() || waited >= STORE_PATIENCE,
        };
        let missing = fetch_models(Some(store), &mut self.job, is_hopeless);
        if let Some(missing) = &missing
            && !std::mem::replace(&mut self.is_told, true)
        {
            let edge = &self.job.message.changes.edge;
            tracing::warn!(
                edge,
                "waiting for a model of an edge; only this edge waits with it: {missing}"
            );
        }
        missing.is_none()
    }
}

/// Fetches the models of a message, and moves those that cannot be had to the refused ones. Returns
/// why some may still come.
pub(super) fn fetch_models(
    store: Option<&ModelStore>,
    job: &mut FetchJob,
    is_hopeless: impl Fn(&LinkError) -> bool,
) -> Option<LinkError> {
    let mut missing = None;
    let SignedChanges {
        changes, refused, ..
    } = &mut job.message;
    for (number, change) in &mut changes.changes {
        change
            .models
            .retain_mut(|donation| match fetch(store, &mut donation.model) {
                Ok(()) => true,
                Err(error) if is_hopeless(&error) => {
                    refused.push((*number, error));
                    false
                }
                Err(error) => {
                    missing = Some(error);
                    true
                }
            });
    }
    missing
}
