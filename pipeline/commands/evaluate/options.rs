//! EvaluateOptions of `perennial evaluate` and their checks.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::Error;

/// How to evaluate.
pub struct EvaluateOptions<'a> {
    /// Attributes whose values, in order of first appearance, are the tasks; none takes the first level of the task
    /// tree.
    pub attributes: Option<&'a str>,
    /// So many slices of time are the tasks instead.
    pub slices: Option<u32>,
    /// Seed of the choice of test samples.
    pub seed: u64,
    /// Where the findings, the plots and Perennial's answers are written.
    pub output: Option<&'a Path>,
}

/// Fails when the evaluation is to stop.
pub(crate) fn check(stop: &AtomicBool) -> Result<(), Error> {
    match stop.load(Ordering::Relaxed) {
        true => Err(Error::Failed("the evaluation was told to stop".into())),
        false => Ok(()),
    }
}
