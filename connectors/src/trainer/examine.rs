//! Examination of models from elsewhere: they run in a process of their own, within limits of time
//! and memory, before anything here depends on them.

use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::time::Duration;

use ndarray::{Array2, ArrayView2};
use nix::sys::resource::Resource;
use perennial_operators::LabelKind;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::error::TrainerError;
use super::process::{Children, Exchanged, check_status, limit, piped};
use crate::native;
use crate::onnx::{OnnxError, Runtime, inspect, trees};

/// Processor time of an examination, seconds.
const SECONDS: u64 = 10;
/// Time limit of an examination by the clock.
const PATIENCE: Duration = Duration::from_secs(60);
/// Address space of an examination, bytes.
const MEMORY: u64 = 4 << 30;
/// Name of the process in messages.
const WHO: &str = "the process that examined the model (limited to 10 s of a processor and 4 GiB)";

/// Why a model from elsewhere is refused.
#[derive(Debug, Error)]
pub enum ExamineError {
    /// It is not allowed to run at all.
    #[error("{0}")]
    Forbidden(String),
    /// It does not load or run, or its outputs cannot be used.
    #[error("{0}")]
    Unusable(String),
    /// It does not load or run, or its outputs cannot be used.
    #[error(transparent)]
    Onnx(#[from] OnnxError),
    /// Its process did not come to an end.
    #[error(transparent)]
    Process(#[from] TrainerError),
}

/// Where a model comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// An edge: it may use ONNX's own operators without control flow, and no other file.
    Edge,
    /// The cloud, which an edge trusts.
    Cloud,
}

/// A request to the process: the model, and what to run it on.
#[derive(Serialize, Deserialize)]
struct Request {
    onnx: Vec<u8>,
    features: Array2<f32>,
    width: usize,
}

/// Examiner of models from elsewhere.
///
/// A model in the built-in trainer's own shape, a tree ensemble that ends, runs in this process.
/// Any other runs in a process of its own first.
#[derive(Debug)]
pub struct Examiner {
    program: PathBuf,
    runtime: Runtime,
    children: Children,
}

impl Examiner {
    /// An examiner with the program of [`native::program`].
    pub fn new(runtime: Runtime) -> Examiner {
        Examiner {
            program: native::program(),
            runtime,
            children: Children::default(),
        }
    }

    /// Outputs of a model for rows of `features`.
    ///
    /// # Errors
    /// The model is refused: it may not run, does not run, takes too much time or memory, or its
    /// outputs are no distributions or no numbers.
    pub fn outputs(
        &self,
        onnx: &[u8],
        origin: Origin,
        features: ArrayView2<'_, f32>,
        kind: LabelKind,
    ) -> Result<Array2<f32>, ExamineError> {
        let (columns, width) = (features.ncols(), kind.width());
        if trees(onnx, columns, kind).is_ok() {
            let mut outputs = Array2::zeros((features.nrows(), width));
            let mut session = self.runtime.session(onnx, columns, width)?;
            session.predict(features, outputs.view_mut())?;
            return Ok(outputs);
        }
        if origin == Origin::Edge {
            inspect(onnx).map_err(ExamineError::Forbidden)?;
        }
        let request = Request {
            onnx: onnx.to_vec(),
            features: features.to_owned(),
            width,
        };
        let request = postcard::to_stdvec(&request).map_err(TrainerError::Request)?;
        let answer: Result<Array2<f32>, String> = self.run(&request)?;
        let outputs = answer.map_err(ExamineError::Unusable)?;
        if outputs.dim() != (features.nrows(), width) {
            return Err(ExamineError::Unusable("its outputs are torn".to_owned()));
        }
        Ok(outputs)
    }

    /// Runs the process to its end.
    fn run(&self, request: &[u8]) -> Result<Result<Array2<f32>, String>, TrainerError> {
        let mut command = piped(&self.program, None);
        command.arg(EXAMINE).env_remove("RUST_LOG");
        let limits = [
            (Resource::RLIMIT_CPU, SECONDS),
            (Resource::RLIMIT_AS, MEMORY),
        ];
        limit(&mut command, &limits).map_err(TrainerError::Connection)?;
        let started = self.children.start(command, WHO)?;
        let Exchanged {
            end,
            stdout,
            stderr,
        } = started.exchange(request, Some(PATIENCE))?;
        if end.is_late {
            return Err(TrainerError::TimedOut {
                who: WHO.to_owned(),
                limit: PATIENCE,
                stderr,
            });
        }
        check_status(end.status, WHO, &stderr)?;
        postcard::from_bytes(&stdout).map_err(TrainerError::Request)
    }
}

/// Argument by which the program becomes the process of an examination.
pub const EXAMINE: &str = "examine";

/// The process of an examination: reads a request from stdin, and writes the outputs, or why there
/// are none, to stdout.
///
/// # Errors
/// The request cannot be read, or the answer not written.
pub fn serve_examination() -> io::Result<()> {
    // If memory runs out, the system is to end this process and not the pipeline.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    let mut bytes = Vec::new();
    io::stdin().read_to_end(&mut bytes)?;
    let request: Request = postcard::from_bytes(&bytes).map_err(io::Error::other)?;
    drop(bytes);
    let answer = examine(&request).map_err(|error| error.to_string());
    let bytes = postcard::to_stdvec(&answer).map_err(io::Error::other)?;
    let mut stdout = io::stdout().lock();
    stdout.write_all(&bytes)?;
    stdout.flush()
}

fn examine(request: &Request) -> Result<Array2<f32>, OnnxError> {
    let Request {
        onnx,
        features,
        width,
    } = request;
    let mut session = Runtime::load()?.session(onnx, features.ncols(), *width)?;
    let mut outputs = Array2::zeros((features.nrows(), *width));
    session.predict(features.view(), outputs.view_mut())?;
    Ok(outputs)
}
