//! `perennial run`: runs a pipeline and prints its report.

use std::path::{Path, PathBuf};

use super::temporary::temporary_folder;
use crate::config::Settings;
use crate::error::Error;
use crate::report::Report;
use crate::run::run;
use crate::terminal::print;

/// Runs a pipeline, prints its report and returns it. The state is in `state`, or in a temporary
/// folder that is removed at the end.
pub(crate) fn run_command(
    settings: &Settings,
    state: Option<PathBuf>,
    report_file: Option<&Path>,
    workers: u16,
) -> Result<Report, Error> {
    let (temporary, state) = match state {
        Some(state) => (None, state),
        None => {
            let folder = temporary_folder()?;
            let path = folder.path().to_path_buf();
            (Some(folder), path)
        }
    };
    let report = run(settings, &state, usize::from(workers))?;
    print(&report.tables());
    if !report.finished {
        let advice = match &temporary {
            Some(_) => "what was learned is gone: give --state DIR to keep it",
            None => "run again with the same --state to go on",
        };
        eprintln!("stopped before the end of the stream; {advice}");
    }
    if let Some(file) = report_file {
        report.write(file)?;
    }
    Ok(report)
}
