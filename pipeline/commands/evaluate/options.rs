//! Options of `perennial evaluate`, and its end by a signal.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::Error;

/// Options of `perennial evaluate`.
pub(crate) struct EvaluateOptions<'a> {
    /// Attributes, separated by commas, whose values are the tasks, in order of first appearance.
    /// Default: the first level of the task tree.
    pub attributes: Option<&'a str>,
    /// Number of time slices that are the tasks instead.
    pub slices: Option<u32>,
    /// Seed of the choice of test samples.
    pub seed: u64,
    /// Folder for the findings, the plots and Perennial's predictions.
    pub output: Option<&'a Path>,
}

/// Fails when a signal has told the evaluation to stop.
pub(crate) fn check(stop: &AtomicBool) -> Result<(), Error> {
    if stop.load(Ordering::Relaxed) {
        Err(Error::Failed("the evaluation was told to stop".into()))
    } else {
        Ok(())
    }
}
