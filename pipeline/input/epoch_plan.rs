//! Epoch plans: where one epoch ends and the next begins.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use perennial_operators::ClusterPlan;

use crate::config::Mode;

/// How a stream is cut into epochs, and which worker reads it.
#[derive(Clone)]
pub struct EpochPlan {
    /// Records of an epoch, over all workers.
    pub records: u64,
    /// Records of the bootstrap.
    pub bootstrap: u64,
    /// Replay takes its clock from the samples, live from the machine.
    pub mode: Mode,
    /// Limit on the records read per second, if there is one.
    pub rate: Option<f64>,
    /// Features and number of clusters to find, if the task tree has a level of clusters.
    pub clustering: Option<ClusterPlan>,
    /// Length of an epoch in live mode.
    pub tick: Duration,
    /// Limit on the bytes of an epoch's records, for topics.
    pub bytes: usize,
    /// Index of the worker.
    pub worker: usize,
    /// Number of workers.
    pub workers: usize,
    /// Set when the run is to stop.
    pub stop: Arc<AtomicBool>,
    /// First epoch that may have samples to predict: before it, no model may be deployed.
    pub opens: Arc<AtomicU64>,
}

impl EpochPlan {
    /// Records of an epoch after the bootstrap: in live mode at most as many as come in a tick.
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
