//! The end of a run: how failures and signals stop it.

use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use perennial_operators::epochs::OnFailure;

use crate::error::Error;

/// What ends a run before its stream does.
#[derive(Clone, Default)]
pub(super) struct Shutdown {
    /// The source opens no further epoch.
    pub(super) stop: Arc<AtomicBool>,
    /// The workers leave at once.
    pub(super) abort: Arc<AtomicBool>,
    /// The first failure.
    failure: Arc<Mutex<Option<Error>>>,
}

impl Shutdown {
    pub(super) fn fail(&self, error: Error, at_once: bool) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert(error);
        self.stop.store(true, Ordering::SeqCst);
        self.abort.fetch_or(at_once, Ordering::SeqCst);
    }

    pub(super) fn take(&self) -> Option<Error> {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.take()
    }

    /// Reports the failure of an operator; the workers then leave at once if `at_once`.
    pub(super) fn on_failure(&self, at_once: bool) -> OnFailure {
        let ending = self.clone();
        Rc::new(move |failure| ending.fail(Error::Failed(failure), at_once))
    }
}
