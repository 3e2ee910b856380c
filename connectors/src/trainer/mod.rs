//! Training models: by the training program, whose trees are written as checked ONNX, or by a command of the user's
//! own.

mod command;
mod error;
mod process;
mod request;

use std::collections::BTreeMap;
use std::path::PathBuf;

use ndarray::Array2;
use perennial_operators::{LabelKind, ModelId, RetainedSample, TrainRequest, TrainResponse};

pub use self::command::{CommandLine, CommandTrainer};
pub use self::error::{Said, TrainerError};
use self::process::{Children, check_status, piped};
use crate::onnx::Runtime;
use crate::{native, onnx};

/// How far a converted model's probabilities may be from XGBoost's own; for numbers, how far as a share of the greatest.
const TOLERANCE: f32 = 1e-5;
/// What errors call the training program.
const WHO: &str = "the training program";
/// The exit code of the dynamic loader when a library is missing.
const LOADER_FAILED: i32 = 127;

/// What a model is trained for, and on.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    /// The model to be.
    pub model: ModelId,
    /// The name of its task.
    pub task: &'a str,
    /// The samples, in the order of the stream.
    pub samples: &'a [RetainedSample],
    /// The same samples as a matrix, and the settings.
    pub request: &'a TrainRequest,
    /// The ONNX model to build on, if it is to be built on one: only where the trainer does
    /// [warm starts](Trainer::warm_starts).
    pub from: Option<&'a [u8]>,
}

/// A trained model.
#[derive(Clone, Debug, PartialEq)]
pub struct Trained {
    /// The model, float `[N, features]` to float `[N, classes]`, or `[N, 1]` where the label is a number.
    pub onnx: Vec<u8>,
    /// The BLAKE3 hash of `onnx` in hexadecimal.
    pub hash: String,
    /// How far its probabilities, or numbers, of the training samples are from what they have to be, at most: from
    /// XGBoost's own, or in sum from 1.
    pub deviation: f32,
    /// What a trainer of the user's own has measured, by name.
    pub metrics: BTreeMap<String, f64>,
}

/// What trains models.
#[derive(Debug)]
pub enum Trainer {
    /// Gradient-boosted trees.
    BuiltIn(BuiltIn),
    /// A command of the user's own.
    Command(Box<CommandTrainer>),
}

impl Trainer {
    /// Trains a model, which takes as long as it takes, and checks it.
    ///
    /// # Errors
    /// There is no model, or not one that Perennial can use.
    pub fn train(&self, job: &Job<'_>) -> Result<Trained, TrainerError> {
        match (self, job.from) {
            (Trainer::BuiltIn(trainer), None) => trainer.train(job.request),
            (Trainer::BuiltIn(trainer), Some(from)) => trainer.warm_start(from, job.request),
            (Trainer::Command(trainer), _) => trainer.train(job),
        }
    }

    /// Whether it can build on what another model says.
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
    /// The trainer with the program that [`native::trainer`] finds. Models are checked with
    /// `runtime`.
    ///
    /// # Errors
    /// The program is missing.
    pub fn find(runtime: Runtime) -> Result<BuiltIn, TrainerError> {
        let (program, libraries) = native::trainer()?;
        Ok(BuiltIn::new(program, libraries, runtime))
    }

    /// The trainer with a given program and the folder of the libraries that it needs.
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

    /// Trains a model, which takes as long as it takes, and checks it against XGBoost on the
    /// training samples.
    ///
    /// # Errors
    /// The request cannot be trained, or the program or the conversion failed.
    pub fn train(&self, request: &TrainRequest) -> Result<Trained, TrainerError> {
        let (model, expected) = self.boost(request)?;
        let onnx = onnx::convert(&model, request.features.ncols(), request.kind)?;
        self.checked(onnx, request, &expected)
    }

    /// Trains trees that correct a model of this trainer's, and gives the two as one: a *warm start*.
    ///
    /// # Errors
    /// As for [`BuiltIn::train`]; the model does not run, or is of another trainer.
    pub fn warm_start(&self, from: &[u8], request: &TrainRequest) -> Result<Trained, TrainerError> {
        let (features, width) = (request.features.ncols(), request.kind.width());
        let mut margins = Array2::zeros((request.features.nrows(), width));
        let mut session = self.runtime.session(from, features, width)?;
        session.predict(request.features.view(), margins.view_mut())?;
        if let LabelKind::Classes(_) = request.kind {
            // A constant in all logits of a row makes no difference.
            margins.mapv_inplace(|probability: f32| probability.max(f32::MIN_POSITIVE).ln());
        }
        let request = TrainRequest {
            margins: Some(margins),
            ..request.clone()
        };
        let (model, expected) = self.boost(&request)?;
        let onnx = onnx::extend(from, &model, features, request.kind)?;
        self.checked(onnx, &request, &expected)
    }

    /// Runs the training program: the booster, and XGBoost's own answers for the samples.
    fn boost(&self, request: &TrainRequest) -> Result<(Vec<u8>, Array2<f32>), TrainerError> {
        let bytes = postcard::to_stdvec(request).map_err(TrainerError::Request)?;
        let finished = self.run(&bytes)?;
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

    /// A model, if it gives the expected answers.
    fn checked(
        &self,
        onnx: Vec<u8>,
        request: &TrainRequest,
        expected: &Array2<f32>,
    ) -> Result<Trained, TrainerError> {
        let (features, width) = (request.features.ncols(), request.kind.width());
        let mut session = self.runtime.session(&onnx, features, width)?;
        let tolerance = match request.kind {
            LabelKind::Classes(_) => TOLERANCE,
            LabelKind::Number => {
                let sizes = expected.iter().map(|number| number.abs());
                TOLERANCE * sizes.fold(0.0, f32::max)
            }
        };
        let deviation = onnx::check(
            &mut session,
            request.features.view(),
            expected.view(),
            tolerance,
        )?;
        let hash = blake3::hash(&onnx).to_hex().to_string();
        Ok(Trained {
            onnx,
            hash,
            deviation,
            metrics: BTreeMap::new(),
        })
    }

    /// Runs the training program with a request as its stdin until it ends.
    fn run(&self, request: &[u8]) -> Result<Finished, TrainerError> {
        let command = piped(&self.program, self.libraries.as_deref());
        let mut started = self.children.start(command, WHO)?;
        let exchanged = started.exchange(request);
        let end = started.wait(None)?;
        let (stdout, said) = exchanged.map_err(TrainerError::Connection)?;
        if end.status.code() == Some(LOADER_FAILED) {
            return Err(TrainerError::Libraries { said });
        }
        check_status(end.status, WHO, &said)?;
        Ok(Finished { stdout, said })
    }
}

/// What the training program left, which has ended well.
struct Finished {
    stdout: Vec<u8>,
    said: Said,
}

impl Finished {
    /// The error for an answer that makes no sense.
    fn unreadable(&self, reason: String) -> TrainerError {
        TrainerError::Answer {
            length: self.stdout.len(),
            reason,
            said: self.said.clone(),
        }
    }
}

/// Ends a trainer's running trainings, for good.
#[derive(Clone, Debug)]
pub struct Cancel(Children);

impl Cancel {
    /// Kills the training programs that run. Their trainings, and all that are asked for later,
    /// end with [`TrainerError::Cancelled`].
    pub fn cancel(&self) {
        self.0.cancel();
    }
}
