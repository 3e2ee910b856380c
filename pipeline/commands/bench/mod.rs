//! `perennial bench`: how much a pipeline takes, and how long its predictions take, with its own config, models
//! and records, on topics of its own.

mod climb;
mod findings;
mod load;
mod trial;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub use findings::{Findings, Step};

use crate::error::Error;
use crate::signals::stop_when_told;
use load::Load;
use trial::Trial;

/// What to measure.
pub struct Options<'a> {
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
fn check(stop: &AtomicBool) -> Result<(), Error> {
    match stop.load(Ordering::Relaxed) {
        true => Err(Error::Failed("the trial was told to stop".into())),
        false => Ok(()),
    }
}

/// Measures first what the pipeline does at full speed, then the latency at higher and higher rates, until it
/// no longer keeps up.
pub fn bench(options: &Options<'_>) -> Result<Findings, Error> {
    let stop = Arc::new(AtomicBool::new(false));
    stop_when_told(&stop)?;
    let trial = Trial::set_up(options, stop.clone())?;
    let mut load = Load::open(&trial.settings, stop)?;
    eprintln!("filling the topic of samples");
    let bootstrap = trial.settings.config().bootstrap.records.unwrap_or(0);
    load.send(bootstrap + options.records, None)?;
    load.finish()?;
    eprintln!("working through it at full speed");
    let full = trial.run_to_end()?;
    let steps = climb::climb(&trial, &mut load, &full, options.seconds)?;
    Ok(Findings::new(options, &full, steps))
}
