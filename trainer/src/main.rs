//! The training program: one request on stdin, one response on stdout, both in postcard.
//!
//! It is a process of its own so that Perennial runs without libxgboost, and so that a crash in
//! there ends one training and not the pipeline. A training that cannot be done is answered with
//! [`TrainResponse::Failed`] and exit code 0; a request that cannot be read has no answer: a
//! sentence on stderr and exit code 1.

mod boost;

use std::io::{self, Read, Write};
use std::os::unix::process::parent_id;
use std::process::{self, ExitCode};
use std::thread;
use std::time::Duration;

use perennial_operators::{TrainRequest, TrainResponse};

/// How often the program looks whether its parent is still there.
const PARENT_CHECK: Duration = Duration::from_millis(200);

fn main() -> ExitCode {
    end_with_parent();
    match answer() {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            eprintln!("{sentence}");
            ExitCode::FAILURE
        }
    }
}

/// Reads the request, trains, writes the response.
fn answer() -> Result<(), String> {
    let mut bytes = Vec::new();
    io::stdin()
        .read_to_end(&mut bytes)
        .map_err(|error| format!("the training request could not be read: {error}"))?;
    let request: TrainRequest = match postcard::take_from_bytes(&bytes) {
        Ok((request, [])) => request,
        Ok((_, rest)) => {
            return Err(format!(
                "the training request is followed by {} bytes that do not belong to it",
                rest.len()
            ));
        }
        Err(error) => return Err(format!("the training request is damaged: {error}")),
    };
    drop(bytes);
    let response =
        boost::train(&request).unwrap_or_else(|error| TrainResponse::Failed(error.to_string()));
    let bytes = postcard::to_stdvec(&response)
        .map_err(|error| format!("the response could not be encoded: {error}"))?;
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(&bytes)
        .and_then(|()| stdout.flush())
        .map_err(|error| format!("the response could not be written: {error}"))
}

/// Ends the process when the one that started it is gone: nobody would read the response.
///
/// The kernel's parent-death signal would come already when the starting *thread* ends, so the
/// parent's number is watched instead.
fn end_with_parent() {
    let parent = parent_id();
    thread::spawn(move || {
        loop {
            thread::sleep(PARENT_CHECK);
            if parent_id() != parent {
                // Not exit(): that would tear libxgboost down under the thread that trains.
                process::abort();
            }
        }
    });
}
