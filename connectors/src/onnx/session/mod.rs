//! Running models with ONNX Runtime.

mod outlets;
mod outputs;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis};
use ort::environment::Environment;
use ort::logging::LogLevel;
use ort::session::builder::SessionBuilder;
use ort::session::{HasSelectedOutputs, OutputSelector, RunOptions};
use ort::value::TensorRef;
use thiserror::Error;

use self::outlets::Outlets;
use crate::native;
use crate::native::NativeError;

/// Rows that go to ONNX Runtime at a time.
///
/// Measured with 150 trees of depth 3 over 17 features on one thread, with other rows in every run:
/// 180,000 rows/s one by one, 330,000 in chunks of 16, 360,000 of 64, 375,000 of 128, and no more
/// up to 1024. Mispredicted branches dominate the cost. A benchmark that repeats one chunk of 64
/// rows shows twice the speed, since the processor learns the branches of these rows.
pub const CHUNK: usize = 128;

/// Estimated memory of a session in bytes, from the size of its model in bytes. ONNX Runtime keeps
/// the trees in a form of its own and does not report its size. The estimate is rather too high
/// than too low; measured on a process with about 100 sessions: 153 KiB each for models of 5 KiB,
/// 612 to 822 KiB for 57 KiB, 2.2 MiB for 237 KiB.
pub fn session_bytes(onnx: usize) -> usize {
    onnx.saturating_mul(12).saturating_add(128 << 10)
}

/// Why a model could not be loaded or run.
#[derive(Debug, Error)]
pub enum OnnxError {
    /// The library is missing.
    #[error(transparent)]
    Native(#[from] NativeError),
    /// The library exists but does not load.
    #[error("ONNX Runtime at {path} does not load: {reason}")]
    Library {
        /// The library.
        path: PathBuf,
        /// The message of ONNX Runtime or the system.
        reason: String,
    },
    /// The bytes are no model, or one that this ONNX Runtime cannot run.
    #[error("the ONNX model does not load: {0}")]
    Load(String),
    /// The model loads, but does not map features to class probabilities or to a number.
    #[error("the ONNX model does not fit: {0}")]
    Unfit(String),
    /// The arrays do not have the shapes of the model.
    #[error(
        "the model takes {features} features and gives {classes} values a row, but was given {rows} \
         rows of {columns} features and room for {room_rows} rows of {room_columns} values"
    )]
    Shape {
        /// Features of the model.
        features: usize,
        /// Outputs of the model for a row: a probability for each class, or one number.
        classes: usize,
        /// Rows of the given features.
        rows: usize,
        /// Columns of the given features.
        columns: usize,
        /// Rows of the given output array.
        room_rows: usize,
        /// Columns of the given output array.
        room_columns: usize,
    },
    /// ONNX Runtime failed during a run.
    #[error("the ONNX model does not run: {0}")]
    Run(String),
    /// The model runs, but its output for a row is no distribution over classes, or no number.
    #[error("the ONNX model's output for row {row} cannot be used: {why}")]
    Output {
        /// The row.
        row: usize,
        /// What is wrong with it.
        why: String,
    },
    /// An output differs from the expected one.
    #[error(
        "the ONNX model gives {found} for class {class} of row {row} where {expected} was expected"
    )]
    Deviation {
        /// The row.
        row: usize,
        /// The class; 0 for a number.
        class: usize,
        /// The model's value.
        found: f32,
        /// The expected value.
        expected: f32,
    },
}

/// ONNX Runtime, loaded. Clones are cheap, share it and can be used on any thread.
#[derive(Clone, Debug)]
pub struct Runtime {
    environment: Environment,
}

impl Runtime {
    /// Loads ONNX Runtime from the path of [`native::onnx_runtime`]. It stays loaded until the
    /// process ends; later calls return the same one.
    ///
    /// # Errors
    /// The library is missing or does not load.
    pub fn load() -> Result<Runtime, OnnxError> {
        // A process can create only one environment, so it is kept even when unused.
        static ENVIRONMENT: Mutex<Option<Environment>> = Mutex::new(None);
        let mut shared = ENVIRONMENT.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(environment) = &*shared {
            let environment = environment.clone();
            return Ok(Runtime { environment });
        }
        let path = native::onnx_runtime()?;
        let failed = |reason: String| OnnxError::Library {
            path: path.clone(),
            reason,
        };
        let environment = ort::init_from(&path)
            .map_err(|error| failed(error.to_string()))?
            .with_name("perennial")
            .with_telemetry(false)
            .build()
            .map_err(|error| failed(error.to_string()))?;
        *shared = Some(environment.clone());
        Ok(Runtime { environment })
    }

    /// Loads an ONNX model that maps `features` features to `classes` class probabilities, or to a
    /// number if `classes` is 1.
    ///
    /// The model has one float input `[N, features]`. One of its outputs is float `[N, classes]`,
    /// or `[N]` for a number; other outputs, such as a classifier's labels, are not computed.
    ///
    /// # Errors
    /// The bytes are no model, or the model has other inputs or outputs.
    pub fn session(
        &self,
        onnx: &[u8],
        features: usize,
        classes: usize,
    ) -> Result<Session, OnnxError> {
        let session = self
            .builder()
            .and_then(|mut builder| builder.commit_from_memory(onnx))
            .map_err(|error| OnnxError::Load(one_line(&error)))?;
        let Outlets { input, output } = Outlets::find(&session, features, classes)?;
        let options = RunOptions::new()
            .map_err(|error| OnnxError::Load(one_line(&error)))?
            .with_outputs(OutputSelector::no_default().with(output));
        let mut session = Session {
            session,
            options,
            input,
            features,
            classes,
        };
        session.probe()?;
        Ok(session)
    }

    /// Settings of all sessions. The calling thread computes by itself: the thread pools of many
    /// sessions would compete, and their spinning threads would take processors from the dataflow.
    fn builder(&self) -> Result<SessionBuilder, ort::Error> {
        Ok(ort::session::Session::builder(&self.environment)?
            .with_intra_threads(1)?
            .with_inter_threads(1)?
            .with_parallel_execution(false)?
            .with_intra_op_spinning(false)?
            .with_inter_op_spinning(false)?
            // Errors are returned; logging them too would print them twice.
            .with_log_level(LogLevel::Fatal)?)
    }
}

/// A loaded model. One thread at a time can use it.
pub struct Session {
    session: ort::session::Session,
    options: RunOptions<HasSelectedOutputs>,
    input: String,
    features: usize,
    classes: usize,
}

impl Session {
    /// Number of features of a row.
    pub fn features(&self) -> usize {
        self.features
    }

    /// Number of probabilities of a row; 1 for a number.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Predicts the class probabilities `[N, classes]`, or numbers `[N, 1]`, of the rows of
    /// `features` (`[N, features]`, NaN for missing) into `probabilities`.
    ///
    /// ONNX Runtime gets at most [`CHUNK`] rows at a time, without a copy if `features` is in
    /// standard layout.
    ///
    /// # Errors
    /// The shapes do not match, or the model fails on these values, or gives a row that is no
    /// distribution over the classes, or no finite number.
    pub fn predict(
        &mut self,
        features: ArrayView2<'_, f32>,
        mut probabilities: ArrayViewMut2<'_, f32>,
    ) -> Result<(), OnnxError> {
        let (rows, columns) = features.dim();
        let (room_rows, room_columns) = probabilities.dim();
        if columns != self.features || (room_rows, room_columns) != (rows, self.classes) {
            return Err(OnnxError::Shape {
                features: self.features,
                classes: self.classes,
                rows,
                columns,
                room_rows,
                room_columns,
            });
        }
        // Chunks of equal size: a small last one would cost more for each row.
        let size = rows.div_ceil(rows.div_ceil(CHUNK).max(1)).max(1);
        let chunks = features.axis_chunks_iter(Axis(0), size);
        let rooms = probabilities.axis_chunks_iter_mut(Axis(0), size);
        for (chunk, room) in chunks.zip(rooms) {
            self.predict_chunk(chunk, room)?;
        }
        match outputs::first_bad(probabilities.view()) {
            None => Ok(()),
            Some((row, why)) => Err(OnnxError::Output { row, why }),
        }
    }

    /// Predicts rows in one run. The caller has checked the shapes.
    fn predict_chunk(
        &mut self,
        features: ArrayView2<'_, f32>,
        mut probabilities: ArrayViewMut2<'_, f32>,
    ) -> Result<(), OnnxError> {
        let failed = |error: ort::Error| OnnxError::Run(one_line(&error));
        let features = features.as_standard_layout();
        let tensor = TensorRef::from_array_view(&features).map_err(failed)?;
        let outputs = self
            .session
            .run_with_options(ort::inputs![self.input.as_str() => tensor], &self.options)
            .map_err(failed)?;
        let (shape, values) = outputs[0].try_extract_tensor::<f32>().map_err(failed)?;
        // Only a model without a fixed output shape can have another one here. The count of values
        // is not enough: [classes, N] would be read transposed.
        let (rows, classes) = probabilities.dim();
        let found = ArrayView2::from_shape((rows, classes), values)
            .ok()
            .filter(|_| outputs::has_shape(shape, rows, classes));
        let Some(found) = found else {
            return Err(OnnxError::Unfit(format!(
                "for {rows} rows and {classes} values each it gives a tensor of shape {shape:?}"
            )));
        };
        probabilities.assign(&found);
        Ok(())
    }

    /// Predicts rows of zeros, so that a model that cannot run fails on load. Their number is above
    /// 1 and not that of the classes, so that the shape of the output tells rows from classes.
    fn probe(&mut self) -> Result<(), OnnxError> {
        let rows = if self.classes == 2 { 3 } else { 2 };
        let features = Array2::zeros((rows, self.features));
        let mut probabilities = Array2::zeros((rows, self.classes));
        self.predict_chunk(features.view(), probabilities.view_mut())
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("features", &self.features)
            .field("classes", &self.classes)
            .finish_non_exhaustive()
    }
}

/// The message of ONNX Runtime, without line breaks.
fn one_line(error: &ort::Error) -> String {
    let text = error.to_string();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Compares the predictions for `features` `[N, features]` with the `expected` probabilities
/// `[N, classes]` or numbers `[N, 1]`, and returns the greatest difference.
///
/// # Errors
/// The model does not run, or a prediction differs by more than `tolerance` or is not a number.
pub fn check(
    session: &mut Session,
    features: ArrayView2<'_, f32>,
    expected: ArrayView2<'_, f32>,
    tolerance: f32,
) -> Result<f32, OnnxError> {
    let mut found = Array2::zeros(expected.dim());
    session.predict(features, found.view_mut())?;
    let mut greatest = 0.0_f32;
    for (((row, class), &found), &expected) in found.indexed_iter().zip(expected) {
        let difference = (found - expected).abs();
        // Not `difference > tolerance`: a comparison with NaN is false.
        let close = difference <= tolerance;
        if !close {
            return Err(OnnxError::Deviation {
                row,
                class,
                found,
                expected,
            });
        }
        greatest = greatest.max(difference);
    }
    Ok(greatest)
}
