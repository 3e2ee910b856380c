//! Epoch plans: where one epoch ends and the next begins.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use perennial_operators::ClusterPlan;

use crate::config::Mode;

/// How a stream is cut into epochs.
#[derive(Clone)]
pub struct EpochPlan {
    /// Records in an epoch.
    pub records: u64,
    /// Records of the bootstrap.
    pub bootstrap: u64,
    /// Replay or live: whose clock counts.
    pub mode: Mode,
    /// Records a second at most.
    pub rate: Option<f64>,
    /// What clusters are to be made of, if a level of the task tree is.
    pub clustering: Option<ClusterPlan>,
    /// In live mode, how long an epoch is.
    pub tick: Duration,
    /// From topics, how many bytes of records it holds at most.
    pub bytes: usize,
    /// Which worker this is.
    pub worker: usize,
    /// Of how many.
    pub workers: usize,
    /// Set when the run is to stop.
    pub stop: Arc<AtomicBool>,
    /// The first epoch with samples that are predicted: before it, nothing may be able to answer.
    pub opens: Arc<AtomicU64>,
}

impl EpochPlan {
    /// Records in a scored epoch: in live mode no more than come in a tick.
    pub(crate) fn live_records(&self) -> u64 {
        match (self.mode, self.rate) {
            (Mode::Live, Some(rate)) => {
                let in_a_tick = (rate * self.tick.as_secs_f64()).round() as u64;
                in_a_tick.clamp(1, self.records)
            }
            _ => self.records,
        }
    }
}
