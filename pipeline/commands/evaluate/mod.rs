//! `perennial evaluate`: the protocol of lifelong learning. Tasks arrive one after another, and
//! after each, the pipeline and the baselines are measured on the test samples of every task: by
//! accuracy, or by R² where the label is a number.

mod baselines;
mod figures;
mod findings;
mod measure;
mod options;
mod plan;
mod plot;
mod replay;
mod samples;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use self::baselines::Baselines;
use self::findings::EvaluationReport;
use self::measure::Measure;
pub(crate) use self::options::EvaluateOptions;
use self::options::check;
use self::plan::{Plan, Sequence};
use self::replay::Replay;
use self::samples::Samples;
use crate::config::Settings;
use crate::error::Error;
use crate::run::signals::stop_on_signal;
use crate::terminal::print;

/// Evaluates the pipeline of a config, and prints the findings.
pub(crate) fn evaluate_command(
    settings: &Settings,
    options: &EvaluateOptions<'_>,
    as_json: bool,
) -> Result<(), Error> {
    let findings = evaluate(settings, options)?;
    print(&if as_json {
        findings.json()?
    } else {
        findings.tables()
    });
    Ok(())
}

/// Evaluates the pipeline and the baselines on the same samples.
fn evaluate(settings: &Settings, options: &EvaluateOptions<'_>) -> Result<EvaluationReport, Error> {
    settings.only_local("evaluate")?;
    let stop = Arc::new(AtomicBool::new(false));
    let sequence = Sequence::new(settings, options.attributes, options.slices)?;
    stop_on_signal(&stop)?;
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
    let findings =
        EvaluationReport::new(settings, measure, &sequence, seed, &samples, &plan, methods);
    if let Some(folder) = options.output {
        findings.write(folder)?;
        plot::write(&findings, folder)?;
    }
    Ok(findings)
}
