//! Training models: the training program as a child process, and its trees as checked ONNX.

mod process;

use std::path::PathBuf;

use ndarray::Array2;
use perennial_operators::{TrainRequest, TrainResponse};
use thiserror::Error;

use self::process::Children;
use crate::native::{self, NativeError};
use crate::onnx::{self, ConvertError, OnnxError, Runtime};

/// How far a converted model's probabilities may be from XGBoost's own.
const TOLERANCE: f32 = 1e-5;

/// A trained model.
#[derive(Clone, Debug, PartialEq)]
pub struct Trained {
    /// The model, float `[N, features]` to float `[N, classes]`.
    pub onnx: Vec<u8>,
    /// The BLAKE3 hash of `onnx` in hexadecimal.
    pub hash: String,
    /// The greatest difference between its probabilities and XGBoost's over the training samples.
    pub deviation: f32,
}

/// Why a training gave no model.
#[derive(Debug, Error)]
pub enum TrainerError {
    /// The training program is not there.
    #[error(transparent)]
    Native(#[from] NativeError),
    /// The training program is there but does not start.
    #[error("the training program {program} does not start: {reason}")]
    Start {
        /// The program.
        program: PathBuf,
        /// What the system says.
        reason: std::io::Error,
    },
    /// The request could not be encoded.
    #[error("the training request cannot be encoded: {0}")]
    Request(postcard::Error),
    /// The system failed between the two processes.
    #[error("the connection to the training program broke: {0}")]
    Connection(std::io::Error),
    /// [`Cancel::cancel`] was called.
    #[error("the training was cancelled")]
    Cancelled,
    /// A signal ended the training program.
    #[error("signal {signal} ended the training program{said}")]
    Killed {
        /// The signal's number.
        signal: i32,
        /// The end of its stderr.
        said: Said,
    },
    /// The training program ended without an answer.
    #[error("the training program ended with exit code {code}{said}")]
    Exited {
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
}

/// The end of what a program wrote to stderr; as text a clause of its own, or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said(String);

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.as_str() {
            "" => Ok(()),
            text => write!(f, "; it said: {text}"),
        }
    }
}

/// The built-in trainer. Each training is a process, so that several threads can train at once.
#[derive(Debug)]
pub struct Trainer {
    program: PathBuf,
    libraries: Option<PathBuf>,
    runtime: Runtime,
    children: Children,
}

impl Trainer {
    /// The trainer with the program that [`native::trainer`] finds. Models are checked with
    /// `runtime`.
    ///
    /// # Errors
    /// The program is missing.
    pub fn find(runtime: Runtime) -> Result<Trainer, TrainerError> {
        let (program, libraries) = native::trainer()?;
        Ok(Trainer::new(program, libraries, runtime))
    }

    /// The trainer with a given program and the folder of the libraries that it needs.
    pub fn new(program: PathBuf, libraries: Option<PathBuf>, runtime: Runtime) -> Trainer {
        Trainer {
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
        let onnx = onnx::convert(&model, request.features.ncols(), request.classes)?;
        self.checked(onnx, request, &expected)
    }

    /// Trains trees that correct a model of this trainer's, and gives the two as one: a *warm start*. The request's
    /// margins are set to what the model says.
    ///
    /// # Errors
    /// As for [`Trainer::train`]; the model does not run, or is of another trainer.
    pub fn warm_start(
        &self,
        from: &[u8],
        mut request: TrainRequest,
    ) -> Result<Trained, TrainerError> {
        let (features, classes) = (request.features.ncols(), request.classes);
        let mut logits = Array2::zeros((request.features.nrows(), classes));
        let mut session = self.runtime.session(from, features, classes)?;
        session.predict(request.features.view(), logits.view_mut())?;
        // A constant in all logits of a row makes no difference.
        logits.mapv_inplace(|probability: f32| probability.max(f32::MIN_POSITIVE).ln());
        request.margins = Some(logits);
        let (model, expected) = self.boost(&request)?;
        let onnx = onnx::extend(from, &model, features, classes)?;
        self.checked(onnx, &request, &expected)
    }

    /// Runs the training program: the booster, and XGBoost's own probabilities of the samples.
    fn boost(&self, request: &TrainRequest) -> Result<(Vec<u8>, Array2<f32>), TrainerError> {
        let bytes = postcard::to_stdvec(request).map_err(TrainerError::Request)?;
        let finished = self
            .children
            .run(&self.program, self.libraries.as_deref(), &bytes)?;
        drop(bytes);
        let answer = finished.answer()?;
        let (model, expected) = match postcard::take_from_bytes(answer) {
            Ok((
                TrainResponse::Trained {
                    model,
                    probabilities,
                },
                [],
            )) => (model, probabilities),
            Ok((TrainResponse::Failed(reason), [])) => return Err(TrainerError::Failed(reason)),
            Ok((_, rest)) => {
                return Err(finished.unreadable(format!("{} bytes are left over", rest.len())));
            }
            Err(error) => return Err(finished.unreadable(error.to_string())),
        };
        let wanted = (request.features.nrows(), request.classes);
        if expected.dim() != wanted {
            return Err(finished.unreadable(format!(
                "it has probabilities for {} samples and {} classes, not for {} and {}",
                expected.nrows(),
                expected.ncols(),
                wanted.0,
                wanted.1
            )));
        }
        Ok((model, expected))
    }

    /// A model, if it gives the expected probabilities.
    fn checked(
        &self,
        onnx: Vec<u8>,
        request: &TrainRequest,
        expected: &Array2<f32>,
    ) -> Result<Trained, TrainerError> {
        let (features, classes) = (request.features.ncols(), request.classes);
        let mut session = self.runtime.session(&onnx, features, classes)?;
        let deviation = onnx::check(
            &mut session,
            request.features.view(),
            expected.view(),
            TOLERANCE,
        )?;
        let hash = blake3::hash(&onnx).to_hex().to_string();
        Ok(Trained {
            onnx,
            hash,
            deviation,
        })
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
