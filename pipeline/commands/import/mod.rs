//! `perennial import`: configs from those of other systems.

mod sedna;

use clap::Subcommand;

use self::sedna::{SednaArguments, import_sedna};
use crate::error::Error;

/// The systems.
#[derive(Subcommand)]
pub(crate) enum ImportCommand {
    /// Print a config for a LifelongLearningJob of KubeEdge-Sedna. What it does not carry over is
    /// listed at its end.
    Sedna(SednaArguments),
}

/// Prints the config.
pub(super) fn import(command: &ImportCommand) -> Result<(), Error> {
    match command {
        ImportCommand::Sedna(arguments) => import_sedna(arguments),
    }
}
