//! `perennial evaluate`: the protocol of lifelong learning. Tasks arrive one after another, and after each the
//! accuracy (of a number R²) on the test samples of every task is measured, of the pipeline itself and of baselines.

mod baselines;
mod figures;
mod findings;
mod measure;
mod plan;
mod plot;
mod replay;
mod samples;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub use figures::{Figures, Matrix};
pub use findings::{Findings, Method, TaskFindings};
pub use plan::LeftOut;

use crate::config::Settings;
use crate::error::Error;
use crate::signals::stop_when_told;
use baselines::Baselines;
use measure::Measure;
use plan::{Plan, Sequence};
use replay::Replay;
use samples::Samples;

/// How to evaluate.
pub struct Options<'a> {
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
fn check(stop: &AtomicBool) -> Result<(), Error> {
    match stop.load(Ordering::Relaxed) {
        true => Err(Error::Failed("the evaluation was told to stop".into())),
        false => Ok(()),
    }
}

/// Evaluates the pipeline of a config and the baselines on the same samples.
pub fn evaluate(settings: &Settings, options: &Options<'_>) -> Result<Findings, Error> {
    settings.only_local("evaluate")?;
    let stop = Arc::new(AtomicBool::new(false));
    let sequence = Sequence::new(settings, options.attributes, options.slices)?;
    stop_when_told(&stop)?;
    if let Some(folder) = options.output {
        std::fs::create_dir_all(folder).map_err(|error| Error::File(folder.into(), error))?;
    }
    let samples = Samples::read(settings)?;
    let plan = Plan::new(settings, &samples, &sequence, options.seed)?;
    let measure = Measure::new(settings, &samples, &plan)?;
    let replay = Replay {
        settings,
        measure,
        samples: &samples,
        plan: &plan,
    };
    let mut methods = vec![replay.run(options.output)?];
    check(&stop)?;
    methods.extend(Baselines::new(settings, measure, &samples, &plan, stop)?.measure()?);
    let seed = options.seed;
    let findings = Findings::new(settings, measure, &sequence, seed, &samples, &plan, methods);
    if let Some(folder) = options.output {
        findings.write(folder)?;
        plot::write(&findings, folder)?;
    }
    Ok(findings)
}
