//! What a command is given: the samples as a Parquet file, and a request in JSON that says what they are.

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

/// The version of the contract. What is added to a request does not change it.
const VERSION: u32 = 1;
/// The names of the files in the folder of a training.
const REQUEST: &str = "request.json";
const SAMPLES: &str = "samples.parquet";
pub const MODEL: &str = "model.onnx";
pub const METRICS: &str = "metrics.json";

#[derive(Serialize)]
struct Request<'a> {
    version: u32,
    task: Task<'a>,
    features: Vec<Input<'a>>,
    /// What the label is.
    kind: Kind,
    /// None where the label is a number.
    classes: &'a [String],
    samples: Samples,
    settings: &'a TreeParameters,
    model: PathBuf,
    metrics: PathBuf,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
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

/// A feature, and the texts that its numbers stand for if it is a categorical one.
#[derive(Serialize)]
struct Input<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    values: Option<&'a [String]>,
}

/// The file of samples, and the names of its columns that are no features.
#[derive(Serialize)]
struct Samples {
    path: PathBuf,
    count: usize,
    label: String,
    weight: String,
    time: String,
    sequence: String,
}

/// Writes the samples and the request into a folder, and returns the request's path.
pub fn write(job: &Job<'_>, schema: &Schema, folder: &Path) -> Result<PathBuf, TrainerError> {
    let failed = |file, reason: String| TrainerError::Input { file, reason };
    let names = |name: &str| {
        let mut name = name.to_owned();
        while schema.features.iter().any(|one| one.column() == name) {
            name.insert(0, '_');
        }
        name
    };
    let samples = Samples {
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
    let request = Request {
        version: VERSION,
        task: Task {
            id: job.model.task.to_string(),
            name: job.task,
            version: job.model.version,
        },
        features: schema.features.iter().map(input).collect(),
        kind: match job.request.kind {
            LabelKind::Classes(_) => Kind::Classes,
            LabelKind::Number => Kind::Number,
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

fn input(feature: &Feature) -> Input<'_> {
    Input {
        name: feature.column(),
        values: match feature {
            Feature::Numeric(_) => None,
            Feature::Categorical(categorical) => Some(&categorical.values),
        },
    }
}

/// The samples: a column for each feature, in order, then what else is known of them.
fn table(job: &Job<'_>, schema: &Schema, names: &Samples) -> Result<RecordBatch, ArrowError> {
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
        // Class numbers are whole and few.
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

fn write_json(request: &Request<'_>, path: &Path) -> io::Result<()> {
    let mut text = serde_json::to_vec_pretty(request)?;
    text.push(b'\n');
    File::create(path)?.write_all(&text)
}
