//! BenchOptions of `perennial bench` and their checks.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::Error;

/// What to measure.
pub struct BenchOptions<'a> {
    /// The pipeline's config.
    pub config: &'a Path,
    /// Keys of it that are overridden.
    pub set: &'a [String],
    /// Worker threads of the dataflow.
    pub workers: u16,
    /// Samples that are worked through at full speed, after the bootstrap.
    pub records: u64,
    /// How long each rate is offered.
    pub seconds: f64,
}

/// Fails when the trial is to stop.
pub(crate) fn check(stop: &AtomicBool) -> Result<(), Error> {
    match stop.load(Ordering::Relaxed) {
        true => Err(Error::Failed("the trial was told to stop".into())),
        false => Ok(()),
    }
}
