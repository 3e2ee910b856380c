//! The files for a command: the samples as Parquet, and a request in JSON that describes them.

use std::fs::File;
use std::io;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float32Array, Int32Array, RecordBatch, TimestampMicrosecondArray, UInt64Array,
};
use arrow::error::ArrowError;
use parquet::arrow::ArrowWriter;
use parquet::errors::ParquetError;
use perennial_operators::{LabelKind, TreeParameters};
use serde::Serialize;

use super::Job;
use super::error::TrainerError;
use crate::schema::{Feature, Schema};

/// Version of the contract. New fields of a request do not change it.
const VERSION: u32 = 1;
/// Names of the files in the folder of a training.
const REQUEST: &str = "request.json";
const SAMPLES: &str = "samples.parquet";
pub const MODEL: &str = "model.onnx";
pub const METRICS: &str = "metrics.json";

#[derive(Serialize)]
struct CommandRequest<'a> {
    version: u32,
    task: Task<'a>,
    features: Vec<RequestFeature<'a>>,
    /// Classes or number.
    kind: RequestLabel,
    /// Empty if the label is a number.
    classes: &'a [String],
    samples: SamplesFile,
    settings: &'a TreeParameters,
    model: PathBuf,
    metrics: PathBuf,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum RequestLabel {
    Classes,
    Number,
}

#[derive(Serialize)]
struct Task<'a> {
    id: String,
    name: &'a str,
    /// The version that the model will have.
    version: u32,
}

/// A feature, with the texts of its values if it is categorical.
#[derive(Serialize)]
struct RequestFeature<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    values: Option<&'a [String]>,
}

/// The file of samples, with the names of its columns that are not features.
#[derive(Serialize)]
struct SamplesFile {
    path: PathBuf,
    count: usize,
    label: String,
    weight: String,
    time: String,
    sequence: String,
}

/// Writes the samples and the request to a folder, and returns the request's path.
pub fn write(job: &Job<'_>, schema: &Schema, folder: &Path) -> Result<PathBuf, TrainerError> {
    let failed = |file, reason: String| TrainerError::Input { file, reason };
    let names = |name: &str| {
        let mut name = name.to_owned();
        while schema.features.iter().any(|one| one.column() == name) {
            name.insert(0, '_');
        }
        name
    };
    let samples = SamplesFile {
        path: folder.join(SAMPLES),
        count: job.samples.len(),
        label: names("label"),
        weight: names("weight"),
        time: names("time"),
        sequence: names("sequence"),
    };
    table(job, schema, &samples)
        .map_err(ParquetError::from)
        .and_then(|table| write_table(&table, &samples.path))
        .map_err(|error| failed(SAMPLES, error.to_string()))?;
    let request = CommandRequest {
        version: VERSION,
        task: Task {
            id: job.model.task.to_string(),
            name: job.task,
            version: job.model.version,
        },
        features: schema.features.iter().map(input).collect(),
        kind: match job.request.kind {
            LabelKind::Classes(_) => RequestLabel::Classes,
            LabelKind::Number => RequestLabel::Number,
        },
        classes: schema.label.as_ref().map_or(&[], |label| &label.classes),
        samples,
        settings: &job.request.parameters,
        model: folder.join(MODEL),
        metrics: folder.join(METRICS),
    };
    let path = folder.join(REQUEST);
    write_json(&request, &path).map_err(|error| failed(REQUEST, error.to_string()))?;
    Ok(path)
}

fn input(feature: &Feature) -> RequestFeature<'_> {
    RequestFeature {
        name: feature.column(),
        values: match feature {
            Feature::Numeric(_) => None,
            Feature::Categorical(categorical) => Some(&categorical.values),
        },
    }
}

/// The samples as a table: a column for each feature in order, then label, weight, time and
/// sequence number.
fn table(job: &Job<'_>, schema: &Schema, names: &SamplesFile) -> Result<RecordBatch, ArrowError> {
    let present = |value: &f32| Some(*value).filter(|value| !value.is_nan());
    let matrix = job.request.features.columns();
    let mut columns: Vec<(&str, ArrayRef)> = Vec::new();
    for (feature, values) in schema.features.iter().zip(matrix) {
        let values: Float32Array = values.iter().map(present).collect();
        columns.push((feature.column(), Arc::new(values)));
    }
    let samples = || job.samples.iter();
    let labels = job.request.labels.iter();
    let labels: ArrayRef = match job.request.kind {
        // Class numbers are small whole numbers.
        LabelKind::Classes(_) => {
            Arc::new(labels.map(|label| *label as i32).collect::<Int32Array>())
        }
        LabelKind::Number => Arc::new(Float32Array::from_iter_values(labels.copied())),
    };
    let times = TimestampMicrosecondArray::from_iter_values(samples().map(|sample| sample.time));
    let sequences: UInt64Array = samples().map(|sample| sample.sequence).collect();
    let weights: Float32Array = match &job.request.weights {
        Some(weights) => weights.iter().copied().map(Some).collect(),
        None => samples().map(|_| Some(1.0)).collect(),
    };
    columns.push((&names.label, labels));
    columns.push((&names.weight, Arc::new(weights)));
    columns.push((&names.time, Arc::new(times.with_timezone("UTC"))));
    columns.push((&names.sequence, Arc::new(sequences)));
    RecordBatch::try_from_iter(columns)
}

fn write_table(table: &RecordBatch, path: &Path) -> Result<(), ParquetError> {
    let mut writer = ArrowWriter::try_new(File::create(path)?, table.schema(), None)?;
    writer.write(table)?;
    writer.close()?;
    Ok(())
}

fn write_json(request: &CommandRequest<'_>, path: &Path) -> io::Result<()> {
    let mut text = serde_json::to_vec_pretty(request)?;
    text.push(b'\n');
    File::create(path)?.write_all(&text)
}
