//! Questions to whoever sits at the terminal.

use std::io::IsTerminal;

use dialoguer::Select;
use dialoguer::theme::ColorfulTheme;

use crate::error::Error;

/// Whether anybody can answer.
pub(super) fn is_answered() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Asks which of the columns is meant, and returns its place among them.
pub(super) fn column(question: &str, columns: &[&str]) -> Result<usize, Error> {
    // It asks on standard error, since the config goes to standard output.
    Select::with_theme(&ColorfulTheme::default())
        .with_prompt(question)
        .items(columns)
        .default(0)
        .interact()
        .map_err(|error| Error::Arguments(format!("no answer: {error}")))
}
