//! Whether Kafka answers: what people are told while the pipeline waits for it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Says what is being waited for, if anything is. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Health {
    waiting: Arc<Mutex<Option<String>>>,
    /// Whether anything is: asked with every record, for which the lock would be too dear.
    is_waiting: Arc<AtomicBool>,
}

impl Health {
    /// What is being waited for; none when all is well.
    pub fn waiting(&self) -> Option<String> {
        self.lock().clone()
    }

    /// Says that something is being waited for, and logs it when it is news.
    pub(crate) fn waits(&self, reason: &str) {
        let mut waiting = self.lock();
        if waiting.is_none() {
            tracing::warn!(reason, "waiting for Kafka");
        }
        *waiting = Some(reason.to_string());
        self.is_waiting.store(true, Ordering::Relaxed);
    }

    /// Says that all is well, and logs it when it is news.
    pub(crate) fn is_well(&self) {
        if !self.is_waiting.load(Ordering::Relaxed) {
            return;
        }
        let mut waiting = self.lock();
        self.is_waiting.store(false, Ordering::Relaxed);
        if waiting.take().is_some() {
            tracing::info!("Kafka answers again");
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
