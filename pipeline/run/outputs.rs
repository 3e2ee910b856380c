//! Outputs of a run: opened, resumed after the last commit, and rendered.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use perennial_connectors::kafka::{Health, TopicFormat};
use perennial_connectors::knowledge_base::KnowledgeBase;
use perennial_connectors::sink::kafka::{KafkaSink, MessageRenderer, register_predictions};
use perennial_connectors::sink::{AppendOptions, Format, Output, Renderer, RequestRenderer, Roll};
use perennial_operators::Failure;

use crate::commit::outputs::{DEAD_LETTERS, LABEL_REQUESTS, Outputs, PREDICTIONS, Refused};
use crate::config::Settings;
use crate::error::Error;
use crate::graph::Render;
use crate::restore::Restored;

/// Registers the schema of predictions if they are Avro and there is a registry; returns its id, or
/// none if `stop` is set before the registry answers.
pub(crate) fn schema_id(
    settings: &Settings,
    health: &Health,
    stop: &AtomicBool,
) -> Result<Option<u32>, Error> {
    let config = settings.config();
    let predictions = config.predictions.as_ref();
    let topic = predictions.and_then(|predictions| predictions.kafka.as_ref());
    match (&config.kafka, topic) {
        (Some(kafka), Some(topic)) if topic.format == TopicFormat::Avro => {
            let layout = settings.layout();
            let waiting = (health, stop);
            Ok(register_predictions(kafka, &topic.topic, &layout, waiting)?)
        }
        _ => Ok(None),
    }
}

/// The renderer of predictions for one worker, if they are written.
pub(crate) fn renderer(
    settings: &Settings,
    schema_id: Option<u32>,
) -> Result<Option<Render>, Failure> {
    let Some(predictions) = &settings.config().predictions else {
        return Ok(None);
    };
    let layout = settings.layout();
    Ok(Some(match &predictions.kafka {
        Some(topic) => {
            let mut renderer = match topic.format {
                TopicFormat::Json => MessageRenderer::json(&layout),
                TopicFormat::Avro => MessageRenderer::avro(&layout, schema_id)?,
            };
            Box::new(move |batch, bytes| renderer.render(batch, bytes))
        }
        None => {
            let mut renderer = Renderer::new(predictions.file_format(), &layout);
            Box::new(move |batch, bytes| renderer.render(batch, bytes))
        }
    }))
}

/// Opens the topics of results, if there are any. It fences any earlier process that writes to
/// them.
pub(crate) fn open_sink(
    settings: &Settings,
    health: &Health,
    stop: &Arc<AtomicBool>,
) -> Result<Option<KafkaSink>, Error> {
    let config = settings.config();
    let topics = config.output_topics();
    let (Some(kafka), true) = (&config.kafka, topics.all().next().is_some()) else {
        return Ok(None);
    };
    let sink = KafkaSink::open(kafka, config.group(), topics, health, stop.clone())?;
    Ok(Some(sink))
}

/// Opens the files of outputs as they were committed, beside the topics `kafka`, and records which
/// ones are new.
pub(crate) fn open_outputs(
    settings: &Settings,
    state: &Path,
    knowledge: &KnowledgeBase,
    restored: &Restored,
    kafka: Option<KafkaSink>,
) -> Result<Outputs, Error> {
    let config = settings.config();
    let progress = &restored.progress;
    let open = |name: &str, path: &Path, format: Format, header: Vec<u8>, roll: Roll| {
        let options = AppendOptions {
            header,
            roll,
            is_private: path.starts_with(state),
        };
        let committed = progress.file(name, path, format == Format::Parquet);
        Output::open(path, format, options, committed.as_ref())
    };
    let predictions = config.predictions.as_ref();
    let path = predictions.and_then(|predictions| predictions.path.as_ref());
    let predictions = match (predictions, path) {
        (Some(predictions), Some(path)) => {
            let format = predictions.file_format();
            let header = Renderer::new(format, &settings.layout()).header();
            let roll = predictions.roll(config.mode);
            Some(open(PREDICTIONS, path, format, header, roll)?)
        }
        _ => None,
    };
    let dead_letters = match &config.dead_letters.kafka {
        Some(_) => None,
        None => {
            let path = config.dead_letters.path.clone();
            let path = path.unwrap_or_else(|| state.join("dead-letters.jsonl"));
            let roll = config.dead_letters.roll();
            Some(open(DEAD_LETTERS, &path, Format::Jsonl, Vec::new(), roll)?)
        }
    };
    let requests = config.label_requests.as_ref();
    let requests = match requests.and_then(|requests| Some((requests, requests.path.as_ref()?))) {
        Some((requests, path)) => {
            let roll = requests.roll.clone();
            Some(open(LABEL_REQUESTS, path, Format::Jsonl, Vec::new(), roll)?)
        }
        None => None,
    };
    let mut outputs = Outputs {
        predictions,
        dead_letters,
        requests,
        renderer: RequestRenderer::new(&settings.schema),
        kafka,
        refused: Refused::default(),
    };
    let mut files = progress.files.clone();
    files.extend(outputs.opened());
    if files != progress.files {
        knowledge.claim_outputs(&files)?;
    }
    Ok(outputs)
}
