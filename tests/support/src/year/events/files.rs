//! Rotation of output files by somebody else, who moves or deletes them while they are written.

use std::fs::File;

use super::super::Year;
use super::super::config::FILES;

/// An output of the edge that writes files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Its predictions.
    Predictions,
    /// Its dead letters.
    DeadLetters,
}

impl Output {
    /// The file, in the bench.
    pub fn path(self) -> &'static str {
        match self {
            Output::Predictions => "west.jsonl",
            Output::DeadLetters => "west/dead-letters.jsonl",
        }
    }
}

/// Files that were moved or deleted, held open, so that what was deleted can be recounted.
#[derive(Default)]
pub struct Archive {
    /// In their order.
    pub files: Vec<(Output, File)>,
}

/// Moves or deletes a file of the edge that writes files.
pub fn rotate(year: &mut Year) {
    let outputs = [Output::Predictions, Output::DeadLetters];
    let output = outputs[year.chance.below(2) as usize];
    send_letter(year);
    year.members.go_on(&[FILES]);
    let bench = &year.fleet.bench;
    let path = bench.path(output.path());
    year.members
        .wait_until(&format!("there is {}", output.path()), |_| path.exists());
    let file = File::open(&path).expect("a file");
    year.archive.files.push((output, file));
    if year.chance.below(2) == 0 {
        year.say(&format!("{} is moved", output.path()));
        let number = year.archive.files.len();
        let to = bench.path(&format!("rotated-{number}.jsonl"));
        std::fs::rename(&path, to).expect("a move");
    } else {
        year.say(&format!("{} is deleted", output.path()));
        std::fs::remove_file(&path).expect("a file");
    }
    // Rows of the commit under way go to the moved file, later ones to a new one.
    loop {
        send_letter(year);
        year.members.go_on(&[FILES]);
        if std::fs::metadata(&path).is_ok_and(|file| file.len() > 0) {
            break;
        }
    }
}

/// Sends the edge a record that becomes a dead letter; samples come by themselves.
fn send_letter(year: &mut Year) {
    let mut books = year.feed.of(FILES);
    let mark = books.mark();
    let value = format!("{mark} is no sample");
    books.send_bad("samples", mark, Some(value.into_bytes()));
}
