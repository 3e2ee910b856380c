//! Errors of commands, and the one place that prints them.
//!
//! `Display` of an error never contains its source: [`render`] prints the whole chain.

use std::process::ExitCode;

use perennial_connectors::kafka::KafkaError;
use perennial_connectors::knowledge_base::KnowledgeError;
use perennial_connectors::link::LinkError;
use perennial_connectors::native::NativeError;
use perennial_connectors::onnx::OnnxError;
use perennial_connectors::sink::SinkError;
use perennial_connectors::source::SourceError;
use perennial_connectors::trainer::TrainerError;
use perennial_operators::Failure;

use crate::config::ConfigError;

/// Reason why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The config is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The source cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The knowledge base cannot be used.
    #[error(transparent)]
    Knowledge(#[from] KnowledgeError),
    /// Kafka cannot be used.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// The link cannot be used.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// An output cannot be written.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// A library or program is missing.
    #[error(transparent)]
    Native(#[from] NativeError),
    /// ONNX Runtime cannot load or run a model.
    #[error(transparent)]
    Onnx(#[from] OnnxError),
    /// No model of the base task loads any more.
    #[error(
        "the base task's model (version {version}) does not load, nor does any earlier one; use \
         the ONNX Runtime under which it was deployed (ORT_DYLIB_PATH)"
    )]
    NoBaseModel {
        /// Version of the deployed model.
        version: u32,
        /// Why it does not load.
        #[source]
        reason: OnnxError,
    },
    /// The command's arguments do not say enough, or do not fit what they are about.
    #[error("{0}")]
    Arguments(String),
    /// A file of the command cannot be written or read.
    #[error("{0}: {1}")]
    File(std::path::PathBuf, std::io::Error),
    /// Something that the command needs does not exist.
    #[error("{0}")]
    NotFound(String),
    /// `perennial kb verify` found errors in the knowledge base.
    #[error("the knowledge base is not sound: {0}")]
    Unsound(String),
    /// The training program cannot be used.
    #[error(transparent)]
    Trainer(#[from] TrainerError),
    /// The dataflow failed.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// Prints an error with its causes. Returns the status of the process: 2 for a bad config, else 1.
pub fn render(error: &Error) -> ExitCode {
    let mut text = error.to_string();
    let first = std::error::Error::source(error);
    for cause in std::iter::successors(first, |cause| cause.source()) {
        text.push_str(": ");
        text.push_str(&cause.to_string());
    }
    eprintln!("perennial: {text}");
    match error {
        Error::Arguments(_)
        | Error::Config(_)
        | Error::Kafka(KafkaError::Option(_) | KafkaError::Secret { .. }) => ExitCode::from(2),
        _ => ExitCode::FAILURE,
    }
}
