//! Dead letters in a file: one JSON object a line.

use perennial_operators::flow::DeadLetter;

/// Line of a dead letter, with its end.
///
/// # Errors
/// The letter cannot be written as JSON.
pub fn dead_letter_line(letter: &DeadLetter) -> Result<Vec<u8>, serde_json::Error> {
    let mut line = serde_json::to_vec(letter)?;
    line.push(b'\n');
    Ok(line)
}
