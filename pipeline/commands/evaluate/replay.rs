//! The pipeline itself in the protocol: one replay of a stream in which, after the samples of each
//! stage, all test samples follow as probes, which have no label.
//!
//! Nothing is learned from a sample without a label. So the pipeline predicts the probes with what
//! it has learned by then, and continues as if there had been none.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use perennial_connectors::knowledge_base::KnowledgeBase;
use perennial_connectors::schema::{Feature, Label, Schema};
use perennial_connectors::sink::{Format, Roll};
use perennial_connectors::source::file::FileFormat;
use perennial_operators::flow::KnowledgeChange;
use perennial_operators::{Epoch, LabelKind};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::figures::{Matrix, samples_transfer_ratio};
use super::findings::Method;
use super::measure::{Measure, Tally};
use super::plan::Plan;
use super::samples::Samples;
use crate::config::{
    BootstrapConfig, ConfigError, DetectorConfig, LabelsConfig, LevelConfig, Mode,
    PredictionsConfig, Settings, SourceConfig,
};
use crate::error::Error;
use crate::input::sources::bootstrap_records;
use crate::report::Report;
use crate::run::run;

/// Number of epochs between the last sample of a stage and the first probe. A training that is
/// under way when the stage ends may be followed by another, ordered an epoch later, whose model is
/// deployed two epochs after that.
const SETTLING: u64 = 3;

/// Maximum bytes of a record of the replayed stream, effectively no limit.
const MAX_RECORD_BYTES: usize = 1 << 30;

/// A day in microseconds.
const DAY: i64 = 86_400_000_000;

// Purposes of records of the replayed stream. A record's id contains its purpose, its stage and the
// number of its sample.
const TRAIN: &str = "train";
const TEST: &str = "test";
const SETTLE: &str = "settle";

/// The replay of an evaluation.
pub(super) struct Replay<'a> {
    /// The config's settings.
    pub settings: &'a Settings,
    /// The measure of predictions.
    pub measure: Measure,
    /// Samples of the stream.
    pub samples: &'a Samples,
    /// The tasks.
    pub plan: &'a Plan,
}

/// The replayed stream, as it was written.
struct Written {
    records: u64,
    /// Number of records up to the last sample of the first stage.
    first_stage: u64,
}

/// A line of the predictions file.
#[derive(Deserialize)]
struct PredictionLine {
    id: String,
    prediction: Value,
}

impl Replay<'_> {
    /// Runs the pipeline and scores its predictions of the probes, which are written to `output` if
    /// it is given.
    pub fn run(&self, output: Option<&Path>) -> Result<Method, Error> {
        let folder = tempfile::Builder::new()
            .prefix("perennial-")
            .tempdir()
            .map_err(|error| Error::File(std::env::temp_dir(), error))?;
        let stream = folder.path().join("stream.jsonl");
        let predictions = folder.path().join("predictions.jsonl");
        let schema = self.schema();
        let written = self
            .write(&schema, &stream)
            .map_err(|error| Error::File(stream.clone(), error))?;
        let bootstrap = self.bootstrap()?;
        let settings = self.replay_settings(schema, stream, predictions.clone(), bootstrap)?;
        let state = folder.path().join("state");
        let report = run(&settings, &state, 1)?;
        if !report.finished {
            return Err(Error::Failed("the evaluation was told to stop".into()));
        }
        self.check(&report, written.records)?;
        let transferred = count_retained(&settings, &state, written.first_stage)?;
        let later_tasks = self.plan.tasks[1..].iter();
        let inferred: usize = later_tasks.map(|task| task.train.len()).sum();
        let ratio = samples_transfer_ratio(transferred, inferred as u64);
        let matrix = self.score(&predictions)?;
        if let Some(output) = output {
            // Like the other findings, they replace those of an earlier evaluation.
            let kept = output.join("predictions.jsonl");
            std::fs::copy(&predictions, &kept).map_err(|error| Error::File(kept, error))?;
        }
        Ok(Method::new("perennial", matrix, self.measure, ratio))
    }

    /// Checks that the pipeline has learned from all train samples, and from no probe.
    fn check(&self, report: &Report, records: u64) -> Result<(), Error> {
        let tasks = self.plan.tasks.iter();
        let train = tasks.map(|task| task.train.len() as u64).sum();
        let learned = report.bootstrapped + report.labelled as u64;
        if (learned, report.unlabelled) == (train, records - train) {
            return Ok(());
        }
        let message = format!(
            "the pipeline has learned from {learned} of {train} samples and answered {} of {} probes: \
             the times of the stages one after another may go beyond the year 9999; choose fewer tasks \
             by --sequence or --slices",
            report.unlabelled,
            records - train
        );
        Err(Error::Failed(message.into()))
    }

    /// Number of bootstrap records: that of the config, but at most the samples of the first stage.
    fn bootstrap(&self) -> Result<u64, ConfigError> {
        let first = self.plan.tasks[0].train.len() as u64;
        let given = bootstrap_records(self.settings, Some(self.samples.records))?;
        Ok(first.min(given.max(1)))
    }

    /// Columns of the replayed stream. Attributes keep their names, since tasks are made of them;
    /// the features are the numbers that models take.
    fn schema(&self) -> Schema {
        let given = &self.settings.schema;
        let unique = |name: &str| {
            let mut name = name.to_string();
            while given.attribute_names().any(|taken| taken == name) {
                name.push('_');
            }
            name
        };
        let features = 0..self.settings.features();
        Schema {
            id: unique("id"),
            time: unique("time"),
            site: given.site.clone(),
            attributes: given.attributes.clone(),
            features: features
                .map(|number| Feature::Numeric(unique(&format!("feature {number}"))))
                .collect(),
            label: Some(Label {
                column: unique("label"),
                classes: self.settings.classes.clone(),
                kind: given.label.as_ref().and_then(|label| label.kind),
            }),
        }
    }

    /// Settings for the replayed stream. It is learned from as the config says, except that labels
    /// are known at once, since a stage ends when its labels are known.
    fn replay_settings(
        &self,
        schema: Schema,
        stream: PathBuf,
        predictions: PathBuf,
        bootstrap: u64,
    ) -> Result<Settings, ConfigError> {
        let mut loaded = self.settings.loaded.clone();
        let config = &mut loaded.config;
        config.mode = Mode::Replay;
        for level in &mut config.tasks.path {
            if let LevelConfig::Cluster(level) = level {
                self.rename(&mut level.cluster.features, &schema);
            }
        }
        config.schema = Some(schema);
        config.kafka = None;
        config.source = SourceConfig {
            path: Some(stream),
            format: Some(FileFormat::Jsonl),
            max_record_bytes: Some(MAX_RECORD_BYTES),
            duplicates_within: Some(0),
            ..SourceConfig::default()
        };
        config.bootstrap = BootstrapConfig {
            share: None,
            records: Some(bootstrap),
        };
        config.labels = LabelsConfig::default();
        config.predictions = Some(PredictionsConfig {
            path: Some(predictions),
            kafka: None,
            format: Some(Format::Jsonl),
            roll: Roll::default(),
        });
        config.dead_letters = Default::default();
        config.report = Default::default();
        config.unseen = None;
        config.label_requests = None;
        // This detector needs the section `unseen`.
        config
            .drift
            .detectors
            .retain(|detector| *detector != DetectorConfig::Features);
        config.produce = None;
        Settings::try_from(loaded)
    }

    /// Replaces names of features by their names in the replayed stream.
    fn rename(&self, features: &mut [String], schema: &Schema) {
        for name in features {
            let mut given = self.settings.schema.features.iter().zip(&schema.features);
            let found = given.find(|(given, _)| given.column() == name);
            if let Some((_, replayed)) = found {
                *name = replayed.column().to_string();
            }
        }
    }

    /// Writes the replayed stream: for each stage its samples, records to settle, and all probes.
    fn write(&self, schema: &Schema, file: &Path) -> std::io::Result<Written> {
        let mut writer = Writer {
            file: BufWriter::new(File::create(file)?),
            samples: self.samples,
            schema,
            clock: i64::MIN,
            records: 0,
        };
        let settling = SETTLING * self.settings.config().epoch.records;
        let tested = || self.plan.tasks.iter().flat_map(|task| &task.test);
        let mut first_stage = 0;
        for (stage, task) in self.plan.tasks.iter().enumerate() {
            let shift = writer.shift(&task.train);
            for row in &task.train {
                let time = self.samples.times[*row].saturating_add(shift);
                writer.write(
                    &id(TRAIN, stage, self.samples.numbers[*row]),
                    *row,
                    time,
                    true,
                )?;
            }
            if stage == 0 {
                first_stage = writer.records;
            }
            for (number, row) in (0..settling).zip(tested().cycle()) {
                writer.write(&id(SETTLE, stage, number), *row, writer.clock, false)?;
            }
            for row in tested() {
                let id = id(TEST, stage, self.samples.numbers[*row]);
                writer.write(&id, *row, writer.clock, false)?;
            }
        }
        writer.file.flush()?;
        Ok(Written {
            records: writer.records,
            first_stage,
        })
    }

    /// Scores the predictions of the probes.
    fn score(&self, predictions: &Path) -> Result<Matrix, Error> {
        let failed = |error| Error::File(predictions.into(), error);
        let tasks = &self.plan.tasks;
        let mut tested = rustc_hash::FxHashMap::default();
        for (number, task) in tasks.iter().enumerate() {
            let rows = task.test.iter();
            tested.extend(rows.map(|row| (self.samples.numbers[*row], (number, *row))));
        }
        let mut tallies = vec![vec![Tally::default(); tasks.len()]; tasks.len()];
        for line in BufReader::new(File::open(predictions).map_err(failed)?).lines() {
            let line = line.map_err(failed)?;
            let line: PredictionLine = serde_json::from_str(&line).map_err(|e| failed(e.into()))?;
            let Some((stage, number)) = probe(&line.id) else {
                continue;
            };
            let (task, row) = tested[&number];
            let prediction = self.read_prediction(&line.prediction);
            tallies[stage][task].add(self.measure, prediction, self.samples.labels[row]);
        }
        let values = |row: Vec<Tally>| {
            let values = row.into_iter().map(|tally| tally.value(self.measure));
            values.collect()
        };
        Ok(tallies.into_iter().map(values).collect())
    }

    /// A prediction as class number or number; NaN if it is neither.
    fn read_prediction(&self, prediction: &Value) -> f32 {
        let value = match prediction {
            Value::String(class) => {
                let mut classes = self.settings.classes.iter();
                let number = classes.position(|known| known == class);
                number.map(|number| number as f32)
            }
            number => number.as_f64().map(|number| number as f32),
        };
        value.unwrap_or(f32::NAN)
    }
}

/// The id of a record: its purpose, its stage from 1, and the number of its sample in the stream.
fn id(purpose: &str, stage: usize, number: u64) -> String {
    format!("{purpose}-{}-{number}", stage + 1)
}

/// The stage, from 0, and the sample's number in the id of a probe; none for other records.
fn probe(id: &str) -> Option<(usize, u64)> {
    let (stage, number) = id.strip_prefix(TEST)?.strip_prefix('-')?.split_once('-')?;
    let stage: usize = stage.parse().ok()?;
    Some((stage.checked_sub(1)?, number.parse().ok()?))
}

/// Number of samples retained for training that came after the first stage's records.
fn count_retained(settings: &Settings, state: &Path, first_stage: u64) -> Result<u64, Error> {
    let knowledge = KnowledgeBase::open(state, &settings.fingerprint())?;
    let mut count = 0;
    knowledge.view().changes(Epoch(0), |_, change| {
        if let KnowledgeChange::SamplesRetained(retained) = change {
            let samples = retained.samples.iter();
            let later = samples.filter(|sample| sample.sequence >= first_stage);
            count += later.count() as u64;
        }
        Ok(())
    })?;
    Ok(count)
}

/// Writes the records of the replayed stream.
struct Writer<'a> {
    file: BufWriter<File>,
    samples: &'a Samples,
    schema: &'a Schema,
    /// Latest time so far. Probes have this time, so that they do not move the stream's clock.
    clock: i64,
    records: u64,
}

impl Writer<'_> {
    /// What is added to the times of a stage's samples so that the stage does not begin before the
    /// clock: whole days, which keep the time of day.
    fn shift(&self, rows: &[usize]) -> i64 {
        let begin = rows.iter().map(|row| self.samples.times[*row]).min();
        let behind = self.clock.saturating_sub(begin.unwrap_or(self.clock));
        if behind > 0 {
            behind.saturating_add(DAY - 1) / DAY * DAY
        } else {
            0
        }
    }

    fn write(&mut self, id: &str, row: usize, time: i64, labelled: bool) -> std::io::Result<()> {
        let (samples, schema) = (self.samples, self.schema);
        self.clock = self.clock.max(time);
        self.records += 1;
        let mut record = Map::new();
        record.insert(schema.id.clone(), id.into());
        record.insert(schema.time.clone(), (time as f64 / 1e6).into());
        for (column, name) in schema.attribute_names().enumerate() {
            record.insert(name.to_string(), samples.attribute(column, row).into());
        }
        for (feature, value) in schema.features.iter().zip(samples.features.row(row)) {
            // 64 bits are written and read without loss; a missing value becomes null.
            record.insert(feature.column().to_string(), f64::from(*value).into());
        }
        if let Some(label) = schema.label.as_ref().filter(|_| labelled) {
            let number = samples.labels[row];
            let value = match label.kind() {
                LabelKind::Classes(_) => label.classes[number as usize].clone().into(),
                LabelKind::Number => f64::from(number).into(),
            };
            record.insert(label.column.clone(), value);
        }
        serde_json::to_writer(&mut self.file, &Value::Object(record))?;
        self.file.write_all(b"\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_tell_probes_from_all_else() {
        assert_eq!(probe(&id(TEST, 2, 17)), Some((2, 17)));
        assert_eq!(probe(&id(TRAIN, 2, 17)), None);
        assert_eq!(probe(&id(SETTLE, 2, 17)), None);
        assert_eq!(probe("test-0-1"), None);
        assert_eq!(probe("testimony"), None);
    }
}
