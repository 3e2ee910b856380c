//! Errors of trainings, and what a trainer printed.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use crate::native::NativeError;
use crate::onnx::{ConvertError, OnnxError};

/// Why a training gave no model.
#[derive(Debug, Error)]
pub enum TrainerError {
    /// The training program is not there.
    #[error(transparent)]
    Native(#[from] NativeError),
    /// The program is there but does not start.
    #[error("{who} {} does not start: {reason}", .program.display())]
    Start {
        /// Which trainer's program.
        who: String,
        /// The program.
        program: OsString,
        /// What the system says.
        reason: std::io::Error,
    },
    /// The request could not be encoded.
    #[error("the training request cannot be encoded: {0}")]
    Request(postcard::Error),
    /// The system failed between the two processes.
    #[error("the connection to the trainer's process broke: {0}")]
    Connection(std::io::Error),
    /// [`Cancel::cancel`] was called.
    #[error("the training was cancelled")]
    Cancelled,
    /// A signal ended the program.
    #[error("signal {signal} ended {who}{said}")]
    Killed {
        /// Which trainer's program.
        who: String,
        /// The signal's number.
        signal: i32,
        /// The end of its stderr.
        said: Said,
    },
    /// The program ended without an answer.
    #[error("{who} ended with exit code {code}{said}")]
    Exited {
        /// Which trainer's program.
        who: String,
        /// The exit code.
        code: i32,
        /// The end of its stderr.
        said: Said,
    },
    /// The training program lacks a library.
    #[error(
        "the training program cannot load its libraries, libxgboost.so most likely; run \
         scripts/setup.sh{said}"
    )]
    Libraries {
        /// The end of its stderr.
        said: Said,
    },
    /// The answer is no response.
    #[error("the training program's answer of {length} bytes cannot be read: {reason}{said}")]
    Answer {
        /// How many bytes came.
        length: usize,
        /// What is wrong with them.
        reason: String,
        /// The end of its stderr.
        said: Said,
    },
    /// The training program gave a reason why there is no model.
    #[error("the training failed: {0}")]
    Failed(String),
    /// The trees cannot be written as ONNX.
    #[error("the trained model cannot be written as ONNX: {0}")]
    Convert(#[from] ConvertError),
    /// The ONNX model does not do what XGBoost does.
    #[error("the trained model was written as ONNX wrongly: {0}")]
    Conversion(#[from] OnnxError),
    /// The folder of a training cannot be made or written.
    #[error("the folder {path} cannot be used for trainings: {reason}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system says.
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
    /// The command did not end in time.
    #[error("{who} was killed: it took longer than {limit:?}{said}")]
    TimedOut {
        /// Which trainer's program.
        who: String,
        /// How long it may take.
        limit: Duration,
        /// The end of its stderr.
        said: Said,
    },
    /// The command ended well, but what it left is not what it should.
    #[error("the trainer's command ended, but {file} {reason}{said}")]
    Output {
        /// The file.
        file: &'static str,
        /// What is wrong with it.
        reason: String,
        /// The end of its stderr.
        said: Said,
    },
}

/// The end of what a program wrote to stderr; as text a clause of its own, or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said(pub(super) String);

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.as_str() {
            "" => Ok(()),
            text => write!(f, "; it said: {text}"),
        }
    }
}
