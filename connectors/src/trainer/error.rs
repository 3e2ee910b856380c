//! Errors of trainings.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use crate::native::NativeError;
use crate::onnx::{ConvertError, OnnxError};

/// Why a training gave no model.
#[derive(Debug, Error)]
pub enum TrainerError {
    /// The training program is missing.
    #[error(transparent)]
    Native(#[from] NativeError),
    /// The program exists but does not start.
    #[error("{who} {} does not start: {reason}", .program.display())]
    Start {
        /// Name of the program in messages.
        who: String,
        /// The program.
        program: OsString,
        /// The error of the system.
        reason: std::io::Error,
    },
    /// The request cannot be encoded.
    #[error("the training request cannot be encoded: {0}")]
    Request(postcard::Error),
    /// A pipe or a wait for the process failed.
    #[error("the connection to the trainer's process broke: {0}")]
    Connection(std::io::Error),
    /// [`Cancel::cancel`](super::Cancel::cancel) was called.
    #[error("the training was cancelled")]
    Cancelled,
    /// A signal ended the program.
    #[error("signal {signal} ended {who}{stderr}")]
    Killed {
        /// Name of the program in messages.
        who: String,
        /// The signal's number.
        signal: i32,
        /// The end of its stderr.
        stderr: StderrTail,
    },
    /// The program ended with an exit code other than 0.
    #[error("{who} ended with exit code {code}{stderr}")]
    Exited {
        /// Name of the program in messages.
        who: String,
        /// The exit code.
        code: i32,
        /// The end of its stderr.
        stderr: StderrTail,
    },
    /// The training program lacks a library.
    #[error(
        "the training program cannot load its libraries, libxgboost.so most likely; run \
         scripts/setup.sh{stderr}"
    )]
    Libraries {
        /// The end of its stderr.
        stderr: StderrTail,
    },
    /// The output of the program is no response.
    #[error("the training program's answer of {length} bytes cannot be read: {reason}{stderr}")]
    Answer {
        /// Length of the output in bytes.
        length: usize,
        /// Why it cannot be read.
        reason: String,
        /// The end of its stderr.
        stderr: StderrTail,
    },
    /// The training program reported a failure.
    #[error("the training failed: {0}")]
    Failed(String),
    /// The trees cannot be written as ONNX.
    #[error("the trained model cannot be written as ONNX: {0}")]
    Convert(ConvertError),
    /// The ONNX model does not predict what XGBoost predicts.
    #[error("the trained model was written as ONNX wrongly: {0}")]
    Conversion(OnnxError),
    /// The folder of a training cannot be created or written.
    #[error("the folder {path} cannot be used for trainings: {reason}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The error of the system.
        reason: std::io::Error,
    },
    /// The samples or the request for a command cannot be written.
    #[error("{file} cannot be written for the trainer's command: {reason}")]
    Input {
        /// The file.
        file: &'static str,
        /// Why.
        reason: String,
    },
    /// The program took longer than its time limit.
    #[error("{who} was killed: it took longer than {limit:?}{stderr}")]
    TimedOut {
        /// Name of the program in messages.
        who: String,
        /// The time limit.
        limit: Duration,
        /// The end of its stderr.
        stderr: StderrTail,
    },
    /// The command ended with exit code 0, but a file that it wrote cannot be used.
    #[error("the trainer's command ended, but {file} {reason}{stderr}")]
    Output {
        /// The file.
        file: &'static str,
        /// Why it cannot be used.
        reason: String,
        /// The end of its stderr.
        stderr: StderrTail,
    },
}

/// The end of a program's stderr. Its text is a clause that follows an error, or empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StderrTail(pub(super) String);

impl std::fmt::Display for StderrTail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.as_str() {
            "" => Ok(()),
            text => write!(f, "; it said: {text}"),
        }
    }
}
