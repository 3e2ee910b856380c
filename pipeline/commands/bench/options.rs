//! Options of `perennial bench`, and its end by a signal.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::Error;

/// Options of `perennial bench`.
pub(crate) struct BenchOptions<'a> {
    /// Config of the pipeline.
    pub config: &'a Path,
    /// Overrides of its keys.
    pub set: &'a [String],
    /// Worker threads of the dataflow.
    pub workers: u16,
    /// Number of samples processed at full speed, after the bootstrap.
    pub records: u64,
    /// Seconds for which each rate is offered.
    pub seconds: f64,
}

/// Fails when a signal has told the trial to stop.
pub(crate) fn check(stop: &AtomicBool) -> Result<(), Error> {
    if stop.load(Ordering::Relaxed) {
        Err(Error::Failed("the trial was told to stop".into()))
    } else {
        Ok(())
    }
}
