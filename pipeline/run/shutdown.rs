//! Shutdown: how failures and signals end a run.

use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use perennial_operators::epochs::OnFailure;

use crate::error::Error;

/// What ends a run before its stream does.
#[derive(Clone, Default)]
pub(super) struct Shutdown {
    /// Set when sources are to open no further epoch.
    pub(super) stop: Arc<AtomicBool>,
    /// Set when workers are to end at once.
    pub(super) abort: Arc<AtomicBool>,
    /// The first failure.
    failure: Arc<Mutex<Option<Error>>>,
}

impl Shutdown {
    /// Stops the run because of a failure; with `at_once` the workers end at once.
    pub(super) fn fail(&self, error: Error, at_once: bool) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert(error);
        self.stop.store(true, Ordering::SeqCst);
        self.abort.fetch_or(at_once, Ordering::SeqCst);
    }

    /// Takes the first failure.
    pub(super) fn take(&self) -> Option<Error> {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.take()
    }

    /// Stops the run when an operator fails; with `at_once` the workers end at once.
    pub(super) fn on_failure(&self, at_once: bool) -> OnFailure {
        let shutdown = self.clone();
        Rc::new(move |failure| shutdown.fail(Error::Failed(failure), at_once))
    }
}
