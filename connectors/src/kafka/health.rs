//! Health: what the pipeline waits for while Kafka does not answer, for logs and status.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The part of a pipeline that waits. The two sides recover independently.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Side {
    /// Reading topics.
    #[default]
    Input,
    /// Writing topics.
    Output,
}

/// What one pipeline waits for. Clones share the state.
#[derive(Clone, Debug, Default)]
pub struct Health {
    side: Side,
    waiting: Arc<Mutex<[Option<String>; 2]>>,
    /// Whether a side waits. It is read for every record, where the lock would cost too much.
    is_waiting: Arc<[AtomicBool; 2]>,
}

impl Health {
    /// The health of `side` of the same pipeline.
    pub(crate) fn of(&self, side: Side) -> Health {
        Health {
            side,
            ..self.clone()
        }
    }

    /// What the pipeline waits for, on any side; none if it does not wait.
    pub fn waiting(&self) -> Option<String> {
        self.lock().iter().flatten().next().cloned()
    }

    /// Whether this side waits.
    pub(crate) fn is_waiting(&self) -> bool {
        self.is_waiting[self.side as usize].load(Ordering::Relaxed)
    }

    /// Records that this side waits, and logs it if neither side waited before.
    pub(crate) fn report_waiting(&self, reason: &str) {
        let mut waiting = self.lock();
        if waiting.iter().all(Option::is_none) {
            tracing::warn!(reason, "waiting for Kafka");
        }
        waiting[self.side as usize] = Some(reason.to_string());
        self.is_waiting[self.side as usize].store(true, Ordering::Relaxed);
    }

    /// Records that this side does not wait, and logs it if neither side waits any more.
    pub(crate) fn report_well(&self) {
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
        output.report_waiting("the coordinator");
        input.report_waiting("the leader");
        input.report_well();
        assert_eq!(input.waiting().as_deref(), Some("the coordinator"));
        assert!(output.is_waiting() && !input.is_waiting());
        output.report_well();
        assert_eq!(input.waiting(), None);
    }
}
