//! Training by a command of the user's own, which reads files and writes a model.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{fs, io};

use ndarray::{Array2, ArrayView1, Axis, concatenate};
use nix::sys::resource::Resource;
use perennial_operators::LabelKind;

use super::error::{StderrTail, TrainerError};
use super::process::{Children, check_status, limit, stderr_tail_of};
use super::request::{METRICS, MODEL};
use super::{Cancel, Job, Trained, request};
use crate::onnx::{OnnxError, Runtime};
use crate::schema::Schema;

/// Bound in bytes on a model, and on any other file that a command writes.
const LARGEST_MODEL: u64 = 256 << 20;
/// Bound in bytes on a command's metrics.
const LARGEST_METRICS: u64 = 16 << 10;
/// Environment variables that a command gets: paths of programs and libraries, and the locale.
const ENVIRONMENT: [&str; 7] = [
    "PATH",
    "LD_LIBRARY_PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
];

/// A command and its limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine {
    /// The program.
    pub program: OsString,
    /// Arguments before the path of the request.
    pub arguments: Vec<OsString>,
    /// Time limit of a training.
    pub timeout: Duration,
    /// Bound in bytes on the address space of each of its processes.
    pub memory: Option<u64>,
}

/// A trainer that runs a command.
#[derive(Debug)]
pub struct CommandTrainer {
    command: CommandLine,
    schema: Schema,
    /// The folder in which each training gets a folder of its own.
    folder: PathBuf,
    runtime: Runtime,
    children: Children,
}

impl CommandTrainer {
    /// A trainer with a command, for samples of a schema with a label. Each training has a folder
    /// of its own in `folder`. Nothing else may use `folder`: old content, which a killed process
    /// may have left, is removed. Models are checked with `runtime`.
    ///
    /// # Errors
    /// The folder cannot be created.
    pub fn new(
        command: CommandLine,
        schema: Schema,
        folder: PathBuf,
        runtime: Runtime,
    ) -> Result<CommandTrainer, TrainerError> {
        let removed = match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
        removed
            .and_then(|()| fs::create_dir_all(&folder))
            .map_err(|reason| unusable(&folder, reason))?;
        Ok(CommandTrainer {
            command,
            schema,
            folder,
            runtime,
            children: Children::default(),
        })
    }

    /// A handle that ends this trainer's trainings from another thread.
    pub fn cancel(&self) -> Cancel {
        Cancel(self.children.clone())
    }

    /// Runs the command, and checks its model on the training samples.
    ///
    /// # Errors
    /// The command fails, or writes no usable model.
    pub fn train(&self, job: &Job<'_>) -> Result<Trained, TrainerError> {
        let folder = tempfile::Builder::new()
            .prefix("training-")
            .tempdir_in(&self.folder)
            .map_err(|reason| unusable(&self.folder, reason))?;
        let request = request::write(job, &self.schema, folder.path())?;
        let limit = job.limit.unwrap_or(Duration::MAX);
        let limit = limit.min(self.command.timeout);
        let stderr = self.run(folder.path(), &request, limit)?;
        let wrong = |file, reason: String| {
            let stderr = stderr.clone();
            TrainerError::Output {
                file,
                reason,
                stderr,
            }
        };
        let onnx = read(folder.path(), MODEL, LARGEST_MODEL)
            .and_then(|onnx| onnx.ok_or_else(|| "is missing".to_owned()))
            .map_err(|reason| wrong(MODEL, reason))?;
        let metrics = read(folder.path(), METRICS, LARGEST_METRICS)
            .and_then(|text| text.map_or_else(|| Ok(BTreeMap::new()), |text| metrics(&text)))
            .map_err(|reason| wrong(METRICS, reason))?;
        let deviation = self
            .check(&onnx, job)
            .map_err(|reason| wrong(MODEL, format!("is not usable: {reason}")))?;
        Ok(Trained {
            hash: blake3::hash(&onnx).to_hex().to_string(),
            onnx,
            deviation,
            metrics,
        })
    }

    /// Runs the command to its end or for `limit`, and returns the end of its stderr.
    fn run(
        &self,
        folder: &Path,
        request: &Path,
        limit: Duration,
    ) -> Result<StderrTail, TrainerError> {
        // A file and not a pipe: no thread has to read it while the command runs, and a descendant
        // that keeps it open blocks nothing.
        let errors = tempfile::tempfile_in(folder).map_err(|reason| unusable(folder, reason))?;
        let stderr = errors
            .try_clone()
            .map_err(|reason| unusable(folder, reason))?;
        let who = match self.command.memory {
            None => "the trainer's command".to_owned(),
            Some(bytes) => format!("the trainer's command (limited to {} MiB)", bytes >> 20),
        };
        let command = self.prepared(folder, request, stderr)?;
        let started = self.children.start(command, &who)?;
        let end = started.wait(Some(limit))?;
        let stderr = stderr_tail_of(errors).map_err(TrainerError::Connection)?;
        if end.is_late {
            return Err(TrainerError::TimedOut { who, limit, stderr });
        }
        check_status(end.status, &who, &stderr)?;
        Ok(stderr)
    }

    fn prepared(
        &self,
        folder: &Path,
        request: &Path,
        stderr: File,
    ) -> Result<Command, TrainerError> {
        let mut command = Command::new(&self.command.program);
        command
            .args(&self.command.arguments)
            .arg(request)
            .current_dir(folder)
            .env_clear()
            .envs(
                ENVIRONMENT
                    .iter()
                    .filter_map(|name| Some((name, std::env::var_os(name)?))),
            )
            .env("TMPDIR", folder)
            // Perennial's own setting decides on parallel trainings; numeric libraries obey this
            // one.
            .env("OMP_NUM_THREADS", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr);
        let files = (Resource::RLIMIT_FSIZE, LARGEST_MODEL);
        let memory = self
            .command
            .memory
            .map(|bytes| (Resource::RLIMIT_AS, bytes));
        let limits: Vec<(Resource, u64)> = [Some(files), memory].into_iter().flatten().collect();
        limit(&mut command, &limits).map_err(TrainerError::Connection)?;
        Ok(command)
    }

    /// Checks a model on the samples of a job and on a sample without features. Returns the
    /// greatest deviation of a sum of probabilities from 1; 0 for numbers.
    fn check(&self, onnx: &[u8], job: &Job<'_>) -> Result<f32, String> {
        let (features, width) = (job.request.features.ncols(), job.request.kind.width());
        let text = |error: OnnxError| error.to_string();
        let mut session = self.runtime.session(onnx, features, width).map_err(text)?;
        let missing = Array2::from_elem((1, features), f32::NAN);
        let rows = concatenate(Axis(0), &[job.request.features.view(), missing.view()])
            .map_err(|error| error.to_string())?;
        let mut found = Array2::zeros((rows.nrows(), width));
        session
            .predict(rows.view(), found.view_mut())
            .map_err(|error| match error {
                OnnxError::Output { row, why } if row < job.samples.len() => {
                    format!("for row {row} of the samples {why}")
                }
                OnnxError::Output { why, .. } => {
                    format!("for a sample whose features are all missing (NaN) {why}")
                }
                error => error.to_string(),
            })?;
        let deviation = |row: ArrayView1<'_, f32>| match job.request.kind {
            LabelKind::Classes(_) => (row.sum() - 1.0).abs(),
            LabelKind::Number => 0.0,
        };
        let deviations = found.rows().into_iter().map(deviation);
        Ok(deviations.fold(0.0, f32::max))
    }
}

impl Drop for CommandTrainer {
    fn drop(&mut self) {
        // The next trainer removes what stays.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn unusable(folder: &Path, reason: io::Error) -> TrainerError {
    TrainerError::Folder {
        path: folder.to_owned(),
        reason,
    }
}

/// Reads a file that a command has written; none if it does not exist.
fn read(folder: &Path, name: &str, most: u64) -> Result<Option<Vec<u8>>, String> {
    let path = folder.join(name);
    let failed = |error: io::Error| format!("cannot be read: {error}");
    match fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
        // Reading a pipe, for example, might never end.
        Ok(found) if !found.is_file() => return Err("is not a file".to_owned()),
        Ok(found) if found.len() > most => {
            return Err(format!(
                "has {} bytes, and more than {most} are too many",
                found.len()
            ));
        }
        Ok(_) => {}
    }
    let mut bytes = Vec::new();
    let file = File::open(&path).map_err(failed)?;
    file.take(most).read_to_end(&mut bytes).map_err(failed)?;
    Ok(Some(bytes))
}

fn metrics(text: &[u8]) -> Result<BTreeMap<String, f64>, String> {
    serde_json::from_slice(text).map_err(|error| format!("is not an object of numbers: {error}"))
}
