//! Whether Kafka answers: what people are told while the pipeline waits for it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Which part of a pipeline waits. That one gets its answers says nothing of the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Side {
    /// What reads topics.
    #[default]
    Input,
    /// What writes to them.
    Output,
}

/// Says what is being waited for, if anything is. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Health {
    side: Side,
    waiting: Arc<Mutex<[Option<String>; 2]>>,
    /// Whether a side waits: asked with every record, for which the lock would be too dear.
    is_waiting: Arc<[AtomicBool; 2]>,
}

impl Health {
    /// That of another side of the same pipeline.
    pub(crate) fn of(&self, side: Side) -> Health {
        Health {
            side,
            ..self.clone()
        }
    }

    /// What is being waited for, on any side; none when all is well.
    pub fn waiting(&self) -> Option<String> {
        self.lock().iter().flatten().next().cloned()
    }

    /// Whether this side waits.
    pub(crate) fn is_waiting(&self) -> bool {
        self.is_waiting[self.side as usize].load(Ordering::Relaxed)
    }

    /// Says that something is being waited for, and logs it when it is news.
    pub(crate) fn waits(&self, reason: &str) {
        let mut waiting = self.lock();
        if waiting.iter().all(Option::is_none) {
            tracing::warn!(reason, "waiting for Kafka");
        }
        waiting[self.side as usize] = Some(reason.to_string());
        self.is_waiting[self.side as usize].store(true, Ordering::Relaxed);
    }

    /// Says that all is well on this side, and logs it when that makes all well.
    pub(crate) fn is_well(&self) {
        if !self.is_waiting() {
            return;
        }
        let mut waiting = self.lock();
        self.is_waiting[self.side as usize].store(false, Ordering::Relaxed);
        waiting[self.side as usize] = None;
        if waiting.iter().all(Option::is_none) {
            tracing::info!("Kafka answers again");
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, [Option<String>; 2]> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_well_when_both_sides_are() {
        let input = Health::default();
        let output = input.of(Side::Output);
        output.waits("the coordinator");
        input.waits("the leader");
        input.is_well();
        assert_eq!(input.waiting().as_deref(), Some("the coordinator"));
        assert!(output.is_waiting() && !input.is_waiting());
        output.is_well();
        assert_eq!(input.waiting(), None);
    }
}
