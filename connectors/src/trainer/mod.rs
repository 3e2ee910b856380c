//! Training of models, by the training program, whose trees are converted to ONNX and checked, or
//! by a command of the user's own.

mod command;
mod error;
mod examine;
mod process;
mod request;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use ndarray::Array2;
use perennial_operators::{LabelKind, ModelId, RetainedSample, TrainRequest, TrainResponse};

pub use self::command::{CommandLine, CommandTrainer};
pub use self::error::{StderrTail, TrainerError};
pub use self::examine::{EXAMINE, ExamineError, Examiner, Origin, serve_examination};
use self::process::{Children, Exchanged, check_status, piped};
use crate::onnx::Runtime;
use crate::{native, onnx};

/// Tolerance between the outputs of a converted model and of XGBoost: absolute for probabilities,
/// relative to the greatest for numbers.
const TOLERANCE: f32 = 1e-5;
/// Name of the training program in messages.
const WHO: &str = "the training program";
/// Exit code of the dynamic loader if a library is missing.
const LOADER_FAILED: i32 = 127;

/// A training: its task, samples and settings.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    /// The model to train.
    pub model: ModelId,
    /// The name of its task.
    pub task: &'a str,
    /// The samples, in the order of the stream.
    pub samples: &'a [RetainedSample],
    /// The same samples as a matrix, and the settings.
    pub request: &'a TrainRequest,
    /// The ONNX model to start from, if any; only for a trainer with
    /// [warm starts](Trainer::warm_starts).
    pub from: Option<&'a [u8]>,
    /// Longest time of the training, after which its process is killed; none without a limit.
    pub limit: Option<Duration>,
}

/// A trained model.
#[derive(Clone, Debug, PartialEq)]
pub struct Trained {
    /// The model: float `[N, features]` to float `[N, classes]`, or `[N, 1]` if the label is a
    /// number.
    pub onnx: Vec<u8>,
    /// The BLAKE3 hash of `onnx` in hexadecimal.
    pub hash: String,
    /// The greatest deviation on the training samples: from the outputs of XGBoost, or for a
    /// command from a sum of probabilities of 1.
    pub deviation: f32,
    /// Metrics that a command has reported, by name.
    pub metrics: BTreeMap<String, f64>,
}

/// A trainer of models.
#[derive(Debug)]
pub enum Trainer {
    /// Gradient-boosted trees.
    BuiltIn(BuiltIn),
    /// A command of the user's own.
    Command(Box<CommandTrainer>),
}

impl Trainer {
    /// Trains a model and checks it. The call blocks until the training ends.
    ///
    /// # Errors
    /// The training failed, or Perennial cannot use its model.
    pub fn train(&self, job: &Job<'_>) -> Result<Trained, TrainerError> {
        match (self, job.from) {
            (Trainer::BuiltIn(trainer), None) => trainer.train(job.request, job.limit),
            (Trainer::BuiltIn(trainer), Some(from)) => {
                trainer.warm_start(from, job.request, job.limit)
            }
            (Trainer::Command(trainer), _) => trainer.train(job),
        }
    }

    /// Whether it can start from the outputs of another model.
    pub fn warm_starts(&self) -> bool {
        matches!(self, Trainer::BuiltIn(_))
    }

    /// A handle that ends this trainer's trainings from another thread.
    pub fn cancel(&self) -> Cancel {
        match self {
            Trainer::BuiltIn(trainer) => trainer.cancel(),
            Trainer::Command(trainer) => trainer.cancel(),
        }
    }
}

/// The built-in trainer. Each training is a process, so that several threads can train at once.
#[derive(Debug)]
pub struct BuiltIn {
    program: PathBuf,
    libraries: Option<PathBuf>,
    runtime: Runtime,
    children: Children,
}

impl BuiltIn {
    /// A trainer with the program of [`native::trainer`]. It checks models with `runtime`.
    ///
    /// # Errors
    /// The program is missing.
    pub fn find(runtime: Runtime) -> Result<BuiltIn, TrainerError> {
        let (program, libraries) = native::trainer()?;
        Ok(BuiltIn::new(program, libraries, runtime))
    }

    /// A trainer with a given program and the folder of its libraries.
    pub fn new(program: PathBuf, libraries: Option<PathBuf>, runtime: Runtime) -> BuiltIn {
        BuiltIn {
            program,
            libraries,
            runtime,
            children: Children::default(),
        }
    }

    /// A handle that ends this trainer's trainings from another thread.
    pub fn cancel(&self) -> Cancel {
        Cancel(self.children.clone())
    }

    /// Trains a model and checks it against XGBoost on the training samples. The call blocks until
    /// the training ends, or is killed after `limit`.
    ///
    /// # Errors
    /// The training, the program or the conversion failed.
    pub fn train(
        &self,
        request: &TrainRequest,
        limit: Option<Duration>,
    ) -> Result<Trained, TrainerError> {
        let (model, expected) = self.boost(request, limit)?;
        let onnx = onnx::convert(&model, request.features.ncols(), request.kind)
            .map_err(TrainerError::Convert)?;
        self.checked(onnx, request, &expected)
    }

    /// Trains trees that correct a model of this trainer, and returns both as one model: a *warm
    /// start*.
    ///
    /// # Errors
    /// As for [`BuiltIn::train`]; or the model does not run, or is of another trainer.
    pub fn warm_start(
        &self,
        from: &[u8],
        request: &TrainRequest,
        limit: Option<Duration>,
    ) -> Result<Trained, TrainerError> {
        let (features, width) = (request.features.ncols(), request.kind.width());
        let mut margins = Array2::zeros((request.features.nrows(), width));
        self.runtime
            .session(from, features, width)
            .and_then(|mut session| session.predict(request.features.view(), margins.view_mut()))
            .map_err(TrainerError::Conversion)?;
        if let LabelKind::Classes(_) = request.kind {
            // The logarithms are logits up to a constant for each row, which does not matter.
            margins.mapv_inplace(|probability: f32| probability.max(f32::MIN_POSITIVE).ln());
        }
        let request = TrainRequest {
            margins: Some(margins),
            ..request.clone()
        };
        let (model, expected) = self.boost(&request, limit)?;
        let onnx =
            onnx::extend(from, &model, features, request.kind).map_err(TrainerError::Convert)?;
        self.checked(onnx, &request, &expected)
    }

    /// Runs the training program: the booster, and XGBoost's own outputs for the samples.
    fn boost(
        &self,
        request: &TrainRequest,
        limit: Option<Duration>,
    ) -> Result<(Vec<u8>, Array2<f32>), TrainerError> {
        let bytes = postcard::to_stdvec(request).map_err(TrainerError::Request)?;
        let finished = self.run(&bytes, limit)?;
        drop(bytes);
        let answer = finished.stdout.as_slice();
        let (model, expected) = match postcard::take_from_bytes(answer) {
            Ok((TrainResponse::Trained { model, answers }, [])) => (model, answers),
            Ok((TrainResponse::Failed(reason), [])) => return Err(TrainerError::Failed(reason)),
            Ok((_, rest)) => {
                return Err(finished.unreadable(format!("{} bytes are left over", rest.len())));
            }
            Err(error) => return Err(finished.unreadable(error.to_string())),
        };
        let wanted = (request.features.nrows(), request.kind.width());
        if expected.dim() != wanted {
            return Err(finished.unreadable(format!(
                "it has answers for {} samples of {} values each, not for {} of {}",
                expected.nrows(),
                expected.ncols(),
                wanted.0,
                wanted.1
            )));
        }
        Ok((model, expected))
    }

    /// Checks that a model gives the expected outputs.
    fn checked(
        &self,
        onnx: Vec<u8>,
        request: &TrainRequest,
        expected: &Array2<f32>,
    ) -> Result<Trained, TrainerError> {
        let (features, width) = (request.features.ncols(), request.kind.width());
        let tolerance = match request.kind {
            LabelKind::Classes(_) => TOLERANCE,
            LabelKind::Number => {
                let sizes = expected.iter().map(|number| number.abs());
                TOLERANCE * sizes.fold(0.0, f32::max)
            }
        };
        let samples = request.features.view();
        let deviation = self
            .runtime
            .session(&onnx, features, width)
            .and_then(|mut session| onnx::check(&mut session, samples, expected.view(), tolerance))
            .map_err(TrainerError::Conversion)?;
        let hash = blake3::hash(&onnx).to_hex().to_string();
        Ok(Trained {
            onnx,
            hash,
            deviation,
            metrics: BTreeMap::new(),
        })
    }

    /// Runs the training program to its end or for `limit`, with a request as its stdin.
    fn run(&self, request: &[u8], limit: Option<Duration>) -> Result<Finished, TrainerError> {
        let command = piped(&self.program, self.libraries.as_deref());
        let started = self.children.start(command, WHO)?;
        let Exchanged {
            end,
            stdout,
            stderr,
        } = started.exchange(request, limit)?;
        if let Some(limit) = limit.filter(|_| end.is_late) {
            let who = WHO.to_owned();
            return Err(TrainerError::TimedOut { who, limit, stderr });
        }
        if end.status.code() == Some(LOADER_FAILED) {
            return Err(TrainerError::Libraries { stderr });
        }
        check_status(end.status, WHO, &stderr)?;
        Ok(Finished { stdout, stderr })
    }
}

/// The outputs of a training program that ended with exit code 0.
struct Finished {
    stdout: Vec<u8>,
    stderr: StderrTail,
}

impl Finished {
    /// The error for an output that is no response.
    fn unreadable(&self, reason: String) -> TrainerError {
        TrainerError::Answer {
            length: self.stdout.len(),
            reason,
            stderr: self.stderr.clone(),
        }
    }
}

/// A handle that ends a trainer's trainings for good.
#[derive(Clone, Debug)]
pub struct Cancel(Children);

impl Cancel {
    /// Kills all running training programs. Their trainings and all later ones fail with
    /// [`TrainerError::Cancelled`].
    pub fn cancel(&self) {
        self.0.cancel();
    }
}
