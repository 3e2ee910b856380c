//! The pipeline itself in the protocol: one replay of a stream in which, after the samples of each stage, all test
//! samples come as probes, which have no label.
//!
//! Nothing is learned from a sample without a label, so that the engine answers the probes as it would have at that point,
//! and goes on as if it had not been asked.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use perennial_connectors::knowledge_base::KnowledgeBase;
use perennial_connectors::schema::{Feature, Label, Schema};
use perennial_connectors::sink::Format;
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
use crate::config::BootstrapConfig;
use crate::config::LabelsConfig;
use crate::config::Mode;
use crate::config::PredictionsConfig;
use crate::config::SourceConfig;
use crate::config::{ConfigError, DetectorConfig, LevelConfig, Settings};
use crate::error::Error;
use crate::input::sources::bootstrap_records;
use crate::report::Report;
use crate::run::run;

/// Epochs that pass between the last sample of a stage and the first probe. A training that was under way when the
/// stage ended may be followed by another, ordered an epoch later, whose model answers two epochs after that.
const SETTLING: u64 = 3;

/// Bytes that a record of the replayed stream may have: whatever the features and attributes are.
const RECORD: usize = 1 << 30;

const DAY: i64 = 86_400_000_000;

/// What a record of the replayed stream is there for; its id tells, with the stage and the sample's number.
const TRAIN: &str = "train";
const TEST: &str = "test";
const SETTLE: &str = "settle";

/// A replay to be.
pub struct Replay<'a> {
    /// The config's settings.
    pub settings: &'a Settings,
    /// How answers are measured.
    pub measure: Measure,
    /// The stream's samples.
    pub samples: &'a Samples,
    /// The tasks.
    pub plan: &'a Plan,
}

/// The stream as it was written.
struct Written {
    records: u64,
    /// Its records up to the end of the first stage's samples.
    first_stage: u64,
}

/// A line of predictions, as far as it matters.
#[derive(Deserialize)]
struct Line {
    id: String,
    prediction: Value,
}

impl Replay<'_> {
    /// Runs the pipeline and scores its answers to the probes. They are kept in `output`, if that is given.
    pub fn run(&self, output: Option<&Path>) -> Result<Method, Error> {
        let folder = tempfile::Builder::new()
            .prefix("perennial-")
            .tempdir()
            .map_err(|error| Error::File(std::env::temp_dir(), error))?;
        let stream = folder.path().join("stream.jsonl");
        let predictions = output.unwrap_or(folder.path()).join("predictions.jsonl");
        let schema = self.schema();
        let written = self
            .write(&schema, &stream)
            .map_err(|error| Error::File(stream.clone(), error))?;
        let bootstrap = self.bootstrap()?;
        let settings = self.replayed(schema, stream, predictions.clone(), bootstrap)?;
        let state = folder.path().join("state");
        let report = run(&settings, &state, 1)?;
        if !report.finished {
            return Err(Error::Failed("the evaluation was told to stop".into()));
        }
        self.check(&report, written.records)?;
        let transferred = kept(&settings, &state, written.first_stage)?;
        let later = self.plan.tasks[1..].iter();
        let inferred: usize = later.map(|task| task.train.len()).sum();
        let ratio = samples_transfer_ratio(transferred, inferred as u64);
        let matrix = self.score(&predictions)?;
        Ok(Method::new("perennial", matrix, self.measure, ratio))
    }

    /// Fails unless the pipeline has learned from the train samples, all of them, and from no probe.
    fn check(&self, report: &Report, records: u64) -> Result<(), Error> {
        let tasks = self.plan.tasks.iter();
        let train = tasks.map(|task| task.train.len() as u64).sum();
        let learned = report.bootstrapped + report.labelled as u64;
        if (learned, report.unlabelled) == (train, records - train) {
            return Ok(());
        }
        let message = format!(
            "the pipeline has learned from {learned} of {train} samples and answered {} of {} probes: the times of the \
             stages one after another may go beyond the year 9999; choose fewer tasks by --sequence or --slices",
            report.unlabelled,
            records - train
        );
        Err(Error::Failed(message.into()))
    }

    /// The first stage's samples, or as many as the config's bootstrap has, whichever are fewer.
    fn bootstrap(&self) -> Result<u64, ConfigError> {
        let first = self.plan.tasks[0].train.len() as u64;
        let given = bootstrap_records(self.settings, Some(self.samples.records))?;
        Ok(first.min(given.max(1)))
    }

    /// The columns of the replayed stream: the attributes have their names, since tasks are made of them, and the
    /// features are the numbers that models see.
    fn schema(&self) -> Schema {
        let given = &self.settings.schema;
        let own = |name: &str| {
            let mut name = name.to_string();
            while given.attribute_names().any(|taken| taken == name) {
                name.push('_');
            }
            name
        };
        let features = 0..self.settings.features();
        Schema {
            id: own("id"),
            time: own("time"),
            site: given.site.clone(),
            attributes: given.attributes.clone(),
            features: features
                .map(|number| Feature::Numeric(own(&format!("feature {number}"))))
                .collect(),
            label: Some(Label {
                column: own("label"),
                classes: self.settings.classes.clone(),
                kind: given.label.as_ref().and_then(|label| label.kind),
            }),
        }
    }

    /// The config's settings for the replayed stream. Of how it learns nothing is changed, but that labels are known at
    /// once: a stage has ended when its labels are there.
    fn replayed(
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
            max_record_bytes: Some(RECORD),
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
        });
        config.dead_letters = Default::default();
        config.report = Default::default();
        config.unseen = None;
        config.label_requests = None;
        // How strange samples look is not known without.
        config
            .drift
            .detectors
            .retain(|detector| *detector != DetectorConfig::Features);
        config.produce = None;
        Settings::try_from(loaded)
    }

    /// Gives features the names that they have in the replayed stream.
    fn rename(&self, features: &mut [String], schema: &Schema) {
        for name in features {
            let mut given = self.settings.schema.features.iter().zip(&schema.features);
            let found = given.find(|(given, _)| given.column() == name);
            if let Some((_, replayed)) = found {
                *name = replayed.column().to_string();
            }
        }
    }

    /// Writes the stream: the samples of a stage, what passes while it settles, the probes; stage after stage.
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

    /// What the answers to the probes are worth.
    fn score(&self, predictions: &Path) -> Result<Matrix, Error> {
        let failed = |error| Error::File(predictions.into(), error);
        let tasks = &self.plan.tasks;
        let mut place_of = rustc_hash::FxHashMap::default();
        for (number, task) in tasks.iter().enumerate() {
            let rows = task.test.iter();
            place_of.extend(rows.map(|row| (self.samples.numbers[*row], (number, *row))));
        }
        let mut tallies = vec![vec![Tally::default(); tasks.len()]; tasks.len()];
        for line in BufReader::new(File::open(predictions).map_err(failed)?).lines() {
            let line = line.map_err(failed)?;
            let line: Line = serde_json::from_str(&line).map_err(|e| failed(e.into()))?;
            let Some((stage, number)) = probe(&line.id) else {
                continue;
            };
            let (task, row) = place_of[&number];
            let answer = self.answer(&line.prediction);
            tallies[stage][task].add(self.measure, answer, self.samples.labels[row]);
        }
        let worths = |tallies: Vec<Tally>| {
            let worths = tallies.into_iter().map(|tally| tally.worth(self.measure));
            worths.collect()
        };
        Ok(tallies.into_iter().map(worths).collect())
    }

    /// The class number, or the number, that a line of predictions says; NaN if it says none.
    fn answer(&self, prediction: &Value) -> f32 {
        let said = match prediction {
            Value::String(class) => {
                let mut known = self.settings.classes.iter();
                known
                    .position(|known| known == class)
                    .map(|class| class as f32)
            }
            number => number.as_f64().map(|number| number as f32),
        };
        said.unwrap_or(f32::NAN)
    }
}

/// The id of a record: what it is for, its stage from 1, and the number of its sample in the stream.
fn id(purpose: &str, stage: usize, number: u64) -> String {
    format!("{purpose}-{}-{number}", stage + 1)
}

/// The stage, from 0, and the sample's number that the id of a probe tells; none of another record.
fn probe(id: &str) -> Option<(usize, u64)> {
    let (stage, number) = id.strip_prefix(TEST)?.strip_prefix('-')?.split_once('-')?;
    let stage: usize = stage.parse().ok()?;
    Some((stage.checked_sub(1)?, number.parse().ok()?))
}

/// How many samples that came after so many records were kept for training.
fn kept(settings: &Settings, state: &Path, first_stage: u64) -> Result<u64, Error> {
    let knowledge = KnowledgeBase::open(state, &settings.fingerprint())?;
    let mut kept = 0;
    knowledge.view().changes(Epoch(0), |_, change| {
        if let KnowledgeChange::SamplesRetained(retained) = change {
            let later = retained
                .samples
                .iter()
                .filter(|sample| sample.sequence >= first_stage);
            kept += later.count() as u64;
        }
        Ok(())
    })?;
    Ok(kept)
}

/// Writes the records of the replayed stream.
struct Writer<'a> {
    file: BufWriter<File>,
    samples: &'a Samples,
    schema: &'a Schema,
    /// The latest time so far. Probes come at that time: they do not move the stream's clock.
    clock: i64,
    records: u64,
}

impl Writer<'_> {
    /// How much later a stage's samples come in the replayed stream: as they are where the stage begins after what came
    /// before, else by whole days, so that times of day are what they were and the stream's clock runs on.
    fn shift(&self, rows: &[usize]) -> i64 {
        let begins = rows.iter().map(|row| self.samples.times[*row]).min();
        let behind = self.clock.saturating_sub(begins.unwrap_or(self.clock));
        match behind {
            ..=0 => 0,
            _ => behind.saturating_add(DAY - 1) / DAY * DAY,
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
            // As 64 bits, which are written and read without loss; a missing one becomes null.
            record.insert(feature.column().to_string(), f64::from(*value).into());
        }
        if let Some(label) = schema.label.as_ref().filter(|_| labelled) {
            let known = samples.labels[row];
            let known = match label.kind() {
                LabelKind::Classes(_) => label.classes[known as usize].clone().into(),
                LabelKind::Number => f64::from(known).into(),
            };
            record.insert(label.column.clone(), known);
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
