//! Outputs of a run: opened, resumed and rendered to.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use perennial_connectors::kafka::{Health, KafkaError, TopicFormat};
use perennial_connectors::knowledge_base::KnowledgeBase;
use perennial_connectors::sink::kafka::register_predictions;
use perennial_connectors::sink::kafka::{KafkaSink, MessageRenderer, committed};
use perennial_connectors::sink::{AppendFile, Format, Output, Renderer, RequestRenderer};
use perennial_operators::Failure;

use crate::commit::outputs::{DEAD_LETTERS, LABEL_REQUESTS, Outputs, PREDICTIONS};
use crate::config::Settings;
use crate::error::Error;
use crate::graph::Render;
use crate::input::sources::source_partitions;
use crate::restore::Restored;

/// Registers the schema of predictions, where they are Avro and there is a registry.
pub(crate) fn schema_id(settings: &Settings) -> Result<Option<u32>, Error> {
    let config = settings.config();
    let predictions = config.predictions.as_ref();
    let topic = predictions.and_then(|predictions| predictions.kafka.as_ref());
    match (&config.kafka, topic) {
        (Some(kafka), Some(topic)) if topic.format == TopicFormat::Avro => Ok(
            register_predictions(kafka, &topic.topic, &settings.layout())?,
        ),
        _ => Ok(None),
    }
}

pub(crate) fn format(settings: &Settings) -> Format {
    let predictions = settings.config().predictions.as_ref();
    let path = predictions.and_then(|config| config.path.as_ref());
    predictions
        .and_then(|config| config.format)
        .unwrap_or_else(|| path.map_or(Format::Jsonl, |path| Format::of(path)))
}

/// What renders predictions on one worker.
pub(crate) fn render(
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
            Box::new(move |scored, bytes| renderer.render(scored, bytes))
        }
        None => {
            let mut renderer = Renderer::new(format(settings), &layout);
            Box::new(move |scored, bytes| renderer.render(scored, bytes))
        }
    }))
}

/// The topics that results go to, if any do. Whoever had the same partitions is fenced from here on.
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

/// Settles a commit that was prepared and of which a crash left open whether it counts: it does if its
/// transaction does, which the group's offsets tell.
pub(crate) fn settle(
    settings: &Settings,
    knowledge: &KnowledgeBase,
    sink: Option<&KafkaSink>,
) -> Result<(), Error> {
    let config = settings.config();
    let (Some(kafka), Some(_)) = (&config.kafka, sink.filter(|sink| sink.is_transactional()))
    else {
        return Ok(());
    };
    let known = knowledge.view().progress()?.commits;
    let places = source_partitions(settings)?;
    let found = committed(kafka, config.group(), &places)?;
    let apart = |found: u64| KafkaError::Apart {
        group: config.group().to_string(),
        found,
        known,
    };
    match (knowledge.prepared()?, found) {
        (Some(prepared), Some(found)) if found == prepared => Ok(knowledge.apply_prepared()?),
        (Some(_), found) if found.unwrap_or(0) == known => Ok(knowledge.drop_prepared()?),
        (Some(_), found) => Err(apart(found.unwrap_or(0)).into()),
        (None, Some(found)) if found != known => Err(apart(found).into()),
        // Offsets that were kept for too short a time, or set by hand: the knowledge base has its own.
        (None, _) => Ok(()),
    }
}

pub(crate) fn open_outputs(
    settings: &Settings,
    state: &Path,
    restored: &Restored,
    kafka: Option<KafkaSink>,
) -> Result<Outputs, Error> {
    let config = settings.config();
    let committed = |name: &str| restored.progress.outputs.get(name).copied().unwrap_or(0);
    let predictions = config.predictions.as_ref();
    let predictions = match predictions.and_then(|predictions| predictions.path.as_ref()) {
        Some(path) => {
            let header = Renderer::new(format(settings), &settings.layout()).header();
            let length = committed(PREDICTIONS);
            Some(Output::open(path, format(settings), &header, length)?)
        }
        None => None,
    };
    let dead_letters = match config.dead_letters.kafka {
        Some(_) => None,
        None => {
            let path = config.dead_letters.path.clone();
            let path = path.unwrap_or_else(|| state.join("dead-letters.jsonl"));
            Some(AppendFile::open(&path, b"", committed(DEAD_LETTERS))?)
        }
    };
    let requests = config.label_requests.as_ref();
    let requests = match requests.and_then(|requests| requests.path.as_ref()) {
        Some(path) => Some(AppendFile::open(path, b"", committed(LABEL_REQUESTS))?),
        None => None,
    };
    Ok(Outputs {
        predictions,
        dead_letters,
        requests,
        renderer: RequestRenderer::new(&settings.schema),
        kafka,
    })
}
