//! The pipeline on trial: a process of its own, as users run it, on topics of the trial alone.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use perennial_connectors::kafka::{KafkaConfig, KafkaError, ScratchTopics};
use perennial_connectors::source::kafka::partitions;
use serde::Deserialize;

use super::options::{BenchOptions, check};
use crate::config::{ConfigError, Settings, load};
use crate::error::Error;

/// Time between two looks at whether the process has ended.
const LOOK: Duration = Duration::from_millis(20);
/// Number of partitions of the trial's topics if the config's own topic does not exist.
const PARTITIONS: i32 = 4;

/// A trial: its settings, topics and state.
pub(super) struct Trial {
    /// Settings of the config, with the topics of the trial.
    pub settings: Settings,
    /// Topic of predictions.
    pub predictions: String,
    /// Overrides of the config, which the process gets too.
    overrides: Vec<String>,
    config: PathBuf,
    workers: u16,
    folder: tempfile::TempDir,
    stop: Arc<AtomicBool>,
    _topics: ScratchTopics,
}

/// The parts of a run's report that show the full speed.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct FullSpeed {
    records: u64,
    bootstrapped: u64,
    pub predicted: u64,
    seconds: f64,
    bootstrap_seconds: f64,
}

impl FullSpeed {
    /// Predictions a second, from the first deployed models on.
    pub fn per_second(&self) -> f64 {
        self.predicted as f64 / (self.seconds - self.bootstrap_seconds).max(f64::MIN_POSITIVE)
    }

    /// Predictions a sample; below 1 where some records are bad.
    pub fn predictions_a_sample(&self) -> f64 {
        self.predicted as f64 / self.records.saturating_sub(self.bootstrapped).max(1) as f64
    }
}

impl Trial {
    pub fn set_up(options: &BenchOptions<'_>, stop: Arc<AtomicBool>) -> Result<Trial, Error> {
        let own = Settings::try_from(load(options.config, options.set)?)?;
        own.only_local("bench")?;
        let kafka = own.kafka()?;
        let names = Names::of(&own)?;
        let mut overrides = options.set.to_vec();
        overrides.extend(names.overrides(&own));
        let settings = Settings::try_from(load(options.config, &overrides)?)?;
        let topics = ScratchTopics::make(kafka, names.all(), names.partitions(kafka)?)?;
        let folder = tempfile::Builder::new()
            .prefix("perennial-bench-")
            .tempdir();
        Ok(Trial {
            settings,
            predictions: names.predictions,
            overrides,
            config: options.config.to_path_buf(),
            workers: options.workers,
            folder: folder.map_err(|error| Error::File(std::env::temp_dir(), error))?,
            stop,
            _topics: topics,
        })
    }

    /// Runs the pipeline to the end of its topic.
    pub fn run_to_end(&self) -> Result<FullSpeed, Error> {
        let report = self.folder.path().join("report.json");
        let mut running = self.start(&[
            "--set".as_ref(),
            "source.kafka.stop_at_end=true".as_ref(),
            "--report".as_ref(),
            report.as_ref(),
        ])?;
        while !running.has_ended()? {
            std::thread::sleep(LOOK);
        }
        let json = std::fs::read(&report).map_err(|error| Error::File(report, error))?;
        serde_json::from_slice(&json).map_err(|error| Error::Failed(error.into()))
    }

    /// Starts the pipeline, which resumes where it ended before.
    pub fn start(&self, more: &[&Path]) -> Result<RunningTrial, Error> {
        let path = self.folder.path().join("errors");
        let failed = |error| Error::File(path.clone(), error);
        let program = std::env::current_exe().map_err(|error| Error::Failed(error.into()))?;
        let mut command = Command::new(&program);
        command.arg("run").arg(&self.config);
        for text in &self.overrides {
            command.arg("--set").arg(text);
        }
        command.arg("--state").arg(self.folder.path().join("state"));
        command.args(["--workers", &self.workers.to_string()]);
        command.args(more.iter().map(|argument| argument.as_os_str()));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(File::create(&path).map_err(failed)?);
        let child = command
            .spawn()
            .map_err(|error| Error::File(program, error))?;
        Ok(RunningTrial {
            child,
            errors: path,
            stop: self.stop.clone(),
        })
    }
}

/// The running pipeline. It is killed when this is dropped before its end.
pub(super) struct RunningTrial {
    child: Child,
    errors: PathBuf,
    stop: Arc<AtomicBool>,
}

impl RunningTrial {
    /// Whether the pipeline has reached its end.
    ///
    /// # Errors
    /// The pipeline failed, or a signal has told the trial to stop.
    pub fn has_ended(&mut self) -> Result<bool, Error> {
        check(&self.stop)?;
        let status = self.child.try_wait();
        match status.map_err(|error| Error::Failed(error.into()))? {
            None => Ok(false),
            Some(status) if status.success() => Ok(true),
            Some(status) => Err(self.failure(status)),
        }
    }

    /// The failure of the pipeline, with the last line of its stderr as the reason.
    fn failure(&self, status: ExitStatus) -> Error {
        let stderr = std::fs::read_to_string(&self.errors).unwrap_or_default();
        let last = stderr.lines().rev().find(|line| !line.trim().is_empty());
        let reason = match last {
            Some(line) => line.trim_start_matches("perennial: ").to_string(),
            None => status.to_string(),
        };
        Error::Failed(format!("the pipeline on trial has failed: {reason}").into())
    }
}

impl Drop for RunningTrial {
    fn drop(&mut self) {
        // A process that has ended cannot be killed, which is no failure. The state is the trial's
        // own, so that nothing of the user's is lost.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Names of a trial's topics.
struct Names {
    samples: String,
    labels: Option<String>,
    predictions: String,
    dead_letters: String,
    group: String,
    /// The config's own topic of samples.
    own_samples: String,
}

impl Names {
    fn of(settings: &Settings) -> Result<Names, ConfigError> {
        let config = settings.config();
        let Some(samples) = &config.source.kafka else {
            let message = "missing: \"perennial bench\" measures from topic to topic";
            return Err(settings.loaded.error("source.kafka", message));
        };
        let group = format!("{}-bench-{}", config.name, std::process::id());
        Ok(Names {
            samples: format!("{group}-samples"),
            labels: config
                .labels
                .kafka
                .as_ref()
                .map(|_| format!("{group}-labels")),
            predictions: format!("{group}-predictions"),
            dead_letters: format!("{group}-dead-letters"),
            own_samples: samples.topic.clone(),
            group,
        })
    }

    /// Number of partitions of the config's own topic.
    fn partitions(&self, kafka: &KafkaConfig) -> Result<i32, KafkaError> {
        let all_partitions = KafkaConfig {
            partitions: None,
            ..kafka.clone()
        };
        match partitions(&all_partitions, &self.group, &[&self.own_samples]) {
            Ok(partitions) => Ok(partitions.len() as i32),
            Err(KafkaError::NoTopic { .. }) => Ok(PARTITIONS),
            Err(error) => Err(error),
        }
    }

    fn all(&self) -> Vec<String> {
        let mut names = vec![
            self.samples.clone(),
            self.predictions.clone(),
            self.dead_letters.clone(),
        ];
        names.extend(self.labels.clone());
        names
    }

    /// Overrides that make the config's pipeline use these topics.
    fn overrides(&self, settings: &Settings) -> Vec<String> {
        let config = settings.config();
        let mut overrides = vec![
            "mode=live".to_string(),
            format!("kafka.group={}", self.group),
            format!("source.kafka.topic={}", self.samples),
            "source.kafka.from=earliest".to_string(),
            "source.kafka.stop_at_end=false".to_string(),
            format!("dead_letters={{kafka: {{topic: {}}}}}", self.dead_letters),
        ];
        if let Some(requests) = &config.label_requests {
            // No requests go to the config's own topic or file, since the samples are only a load.
            overrides.push(format!("label_requests={{per_day: {}}}", requests.per_day));
        }
        if let Some(labels) = &self.labels {
            overrides.push(format!("labels.kafka.topic={labels}"));
        }
        let predictions = config.predictions.as_ref();
        overrides.push(match predictions.and_then(|to| to.kafka.as_ref()) {
            Some(_) => format!("predictions.kafka.topic={}", self.predictions),
            None => format!("predictions={{kafka: {{topic: {}}}}}", self.predictions),
        });
        overrides
    }
}
