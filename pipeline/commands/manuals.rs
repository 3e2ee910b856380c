//! Completions and manual pages, made from the arguments of the command line.

use std::path::Path;

use clap::CommandFactory;
use clap_complete::{Shell, generate};

use super::Arguments;
use crate::error::Error;
use crate::terminal::print;

/// Prints the script with which a shell completes the command line.
pub(super) fn completions(shell: Shell) {
    let mut script = Vec::new();
    let mut command = Arguments::command();
    let name = command.get_name().to_string();
    generate(shell, &mut command, name, &mut script);
    print(&String::from_utf8_lossy(&script));
}

/// Writes a manual page for each command to a folder.
pub(super) fn manual_pages(folder: &Path) -> Result<(), Error> {
    let failed = |error| Error::File(folder.into(), error);
    std::fs::create_dir_all(folder).map_err(failed)?;
    clap_mangen::generate_to(Arguments::command(), folder).map_err(failed)
}
