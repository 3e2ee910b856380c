//! `perennial bench`: how much a pipeline takes, and how long its predictions take, with its own config, models
//! and records, on topics of its own.

mod climb;
mod findings;
mod load;
mod options;
mod trial;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

pub use self::findings::BenchReport;
use self::load::Load;
pub use self::options::BenchOptions;
use self::trial::Trial;
use crate::error::Error;
use crate::run::signals::stop_when_told;

/// Measures first what the pipeline does at full speed, then the latency at higher and higher rates, until it
/// no longer keeps up.
pub fn bench(options: &BenchOptions<'_>) -> Result<BenchReport, Error> {
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
    Ok(BenchReport::new(options, &full, steps))
}
