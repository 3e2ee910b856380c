//! Accuracy at a new site after few labels: of the pipeline, of the base model alone, and of a
//! model that is trained from scratch on the site's own labels. All on the same samples, those of
//! sites that come after the bootstrap.
//!
//! `make bench BENCH=few_samples`. The simulated fleet, and the thermal comfort votes if
//! `PERENNIAL_THERMAL` names their file.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod common;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use ndarray::Array2;
use perennial_connectors::knowledge_base::KnowledgeBase;
use perennial_connectors::onnx::Runtime;
use perennial_connectors::trainer::BuiltIn;
use perennial_operators::flow::predicted_class;
use perennial_operators::{LabelKind, RetainedSample, TrainRequest, TreeParameters};

use common::{Result, run};

/// The numbers of a site's labels from one to the next of which accuracy is measured.
const STEPS: [usize; 6] = [0, 5, 10, 20, 50, 100];

/// A stream: its config, and what is set beside.
struct Stream {
    name: &'static str,
    config: &'static str,
    settings: Vec<String>,
}

/// Samples of a step, site by site: whether the pipeline, the base model and a model from scratch
/// predict each one right.
type Step = Vec<Vec<[bool; 3]>>;

fn main() -> Result<()> {
    for stream in streams() {
        let folder = tempfile::tempdir()?;
        println!("{}", stream.name);
        println!("{}", measure(&stream, folder.path())?);
    }
    Ok(())
}

fn streams() -> Vec<Stream> {
    let set = |settings: &[&str]| settings.iter().map(|set| (*set).to_string()).collect();
    let mut streams = vec![Stream {
        name: "simulated fleet: 200 of 300 sites join after the bootstrap",
        config: "simulator.yaml",
        settings: set(&[
            "source.simulator.sites=300",
            "source.simulator.late_sites=0.67",
            "labels.delay.records=1",
            "epoch.records=64",
        ]),
    }];
    if let Ok(path) = std::env::var("PERENNIAL_THERMAL") {
        streams.push(Stream {
            name: "thermal comfort votes",
            config: "thermal.yaml",
            settings: set(&["labels.delay.records=1", &format!("source.path={path}")]),
        });
    }
    streams
}

fn measure(stream: &Stream, folder: &Path) -> Result<Table> {
    let config = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("configs")
        .join(stream.config);
    let predicted = |name: &str, more: &[&str]| -> Result<(PathBuf, Vec<String>)> {
        let folder = folder.join(name);
        std::fs::create_dir(&folder)?;
        let mut settings = vec![
            "predictions.path=predictions.jsonl",
            "memory.samples_per_task=1000000",
        ];
        settings.extend(stream.settings.iter().map(String::as_str));
        settings.extend(more);
        let set: Vec<&str> = settings.iter().flat_map(|set| ["--set", set]).collect();
        run(&folder, &config, &set)?;
        Ok((folder.join("state"), predictions(&folder)?))
    };
    let (state, whole) = predicted("whole", &[])?;
    let (_, base) = predicted(
        "base",
        &[
            "tasks.path=[]",
            "inference.adapters=false",
            "inference.integration=leaf",
        ],
    )?;
    let knowledge = KnowledgeBase::open_to_read(&state)?;
    let view = knowledge.view();
    let names = knowledge.label()?.classes;
    let bootstrap = view.progress()?.bootstrapped as usize;
    let trainer = BuiltIn::find(Runtime::load()?)?;
    let mut steps = vec![Step::new(); STEPS.len()];
    for task in view.tasks()?.into_keys() {
        let mut samples = view.samples_of(task)?;
        samples.sort_by_key(|sample| sample.sequence);
        if samples
            .first()
            .is_none_or(|first| (first.sequence as usize) < bootstrap)
        {
            continue;
        }
        let said = |all: &[String], sample: &RetainedSample| {
            all[sample.sequence as usize - bootstrap] == names[sample.label as usize]
        };
        for (number, step) in steps.iter_mut().enumerate() {
            let until = STEPS.get(number + 1).copied().unwrap_or(usize::MAX);
            let own = samples
                .get(STEPS[number]..until.min(samples.len()))
                .unwrap_or_default();
            if own.is_empty() {
                continue;
            }
            let scratch = scratch(&trainer, &samples[..STEPS[number]], own, names.len())?;
            let rows = own.iter().enumerate().map(|(at, sample)| {
                [
                    said(&whole, sample),
                    said(&base, sample),
                    scratch.get(at).copied().unwrap_or(false),
                ]
            });
            step.push(rows.collect());
        }
    }
    Ok(table(&steps))
}

/// The classes that were predicted, one sample after the other.
fn predictions(folder: &Path) -> Result<Vec<String>> {
    let lines = BufReader::new(File::open(folder.join("predictions.jsonl"))?).lines();
    let class = |line: std::io::Result<String>| -> Result<String> {
        let value: serde_json::Value = serde_json::from_str(&line?)?;
        Ok(value["prediction"].as_str().unwrap_or_default().to_string())
    };
    lines.map(class).collect()
}

/// Returns whether a model of a site's first labels predicts its next samples right; nothing where
/// there are no labels.
fn scratch(
    trainer: &BuiltIn,
    known: &[RetainedSample],
    next: &[RetainedSample],
    classes: usize,
) -> Result<Vec<bool>> {
    if known.is_empty() {
        return Ok(Vec::new());
    }
    let request = TrainRequest {
        features: matrix(known)?,
        labels: known.iter().map(|sample| sample.label).collect(),
        weights: None,
        kind: LabelKind::Classes(classes),
        margins: None,
        parameters: TreeParameters::default(),
    };
    let trained = trainer.train(&request, None)?;
    let features = matrix(next)?;
    let mut said = Array2::zeros((next.len(), classes));
    let mut session = Runtime::load()?.session(&trained.onnx, features.ncols(), classes)?;
    session.predict(features.view(), said.view_mut())?;
    let rows = said.rows().into_iter().zip(next);
    Ok(rows
        .map(|(row, sample)| predicted_class(row) == sample.label as usize)
        .collect())
}

fn matrix(samples: &[RetainedSample]) -> Result<Array2<f32>> {
    let width = samples.first().map_or(0, |sample| sample.features.len());
    let values = samples
        .iter()
        .flat_map(|sample| sample.features.iter().copied());
    Ok(Array2::from_shape_vec(
        (samples.len(), width),
        values.collect(),
    )?)
}

fn table(steps: &[Step]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header([
        "labels of the site",
        "sites",
        "samples",
        "pipeline",
        "base model",
        "from scratch",
        "pipeline − base",
    ]);
    for (number, step) in steps.iter().enumerate() {
        let samples: usize = step.iter().map(Vec::len).sum();
        let right = |which: usize| {
            let right = step.iter().flatten().filter(|row| row[which]).count();
            right as f64 / samples.max(1) as f64
        };
        let labels = match STEPS.get(number + 1) {
            Some(next) => format!("{} to {}", STEPS[number], next - 1),
            None => format!("{} and more", STEPS[number]),
        };
        let scratch = if STEPS[number] > 0 {
            format!("{:.4}", right(2))
        } else {
            "–".to_string()
        };
        table.add_row([
            labels,
            step.len().to_string(),
            samples.to_string(),
            format!("{:.4}", right(0)),
            format!("{:.4}", right(1)),
            scratch,
            format!("{:+.4} ± {:.4}", right(0) - right(1), error(step, samples)),
        ]);
    }
    table
}

/// The standard error of the difference between pipeline and base model, sites being drawn, not
/// samples.
fn error(sites: &[Vec<[bool; 3]>], samples: usize) -> f64 {
    let gain = |row: &[bool; 3]| f64::from(i8::from(row[0]) - i8::from(row[1]));
    let mean = sites.iter().flatten().map(gain).sum::<f64>() / samples.max(1) as f64;
    let squares = sites.iter().map(|site| {
        let sum: f64 = site.iter().map(|row| gain(row) - mean).sum();
        sum * sum
    });
    squares.sum::<f64>().sqrt() / samples.max(1) as f64
}
