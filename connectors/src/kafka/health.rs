//! Whether Kafka answers: what people are told while the pipeline waits for it.

use std::sync::{Arc, Mutex, PoisonError};

/// Says what is being waited for, if anything is. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Health {
    waiting: Arc<Mutex<Option<String>>>,
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
    }

    /// Says that all is well, and logs it when it is news.
    pub(crate) fn is_well(&self) {
        if self.lock().take().is_some() {
            tracing::info!("Kafka answers again");
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
