//! `perennial bench`: throughput and latency of a pipeline, with its config, models and records, on
//! topics of its own.

mod climb;
mod findings;
mod load;
mod options;
mod trial;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use self::findings::BenchReport;
use self::load::Load;
pub(crate) use self::options::BenchOptions;
use self::trial::Trial;
use crate::error::Error;
use crate::run::signals::stop_on_signal;
use crate::terminal::print;

/// Measures a pipeline, prints the findings, and writes them to `report` as JSON.
pub(crate) fn bench_command(
    options: &BenchOptions<'_>,
    report: Option<&Path>,
) -> Result<(), Error> {
    let findings = bench(options)?;
    print(&findings.tables());
    report.map_or(Ok(()), |file| findings.write(file))
}

/// Measures the throughput at full speed, and then the latency at higher and higher rates, until
/// the pipeline no longer keeps up.
fn bench(options: &BenchOptions<'_>) -> Result<BenchReport, Error> {
    let stop = Arc::new(AtomicBool::new(false));
    stop_on_signal(&stop)?;
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
