//! Outputs of a run: opened, resumed after the last commit, and rendered.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use perennial_connectors::kafka::{Health, KafkaError, TopicFormat};
use perennial_connectors::knowledge_base::KnowledgeBase;
use perennial_connectors::sink::kafka::{
    KafkaSink, MessageRenderer, committed, register_predictions,
};
use perennial_connectors::sink::{AppendFile, Format, Output, Renderer, RequestRenderer};
use perennial_operators::Failure;

use crate::commit::outputs::{DEAD_LETTERS, LABEL_REQUESTS, Outputs, PREDICTIONS, Refused};
use crate::config::Settings;
use crate::error::Error;
use crate::graph::Render;
use crate::input::sources::source_partitions;
use crate::restore::Restored;

/// Registers the schema of predictions if they are Avro and there is a registry; returns its id.
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

/// The format of the file of predictions.
fn format(settings: &Settings) -> Format {
    let predictions = settings.config().predictions.as_ref();
    let path = predictions.and_then(|config| config.path.as_ref());
    predictions
        .and_then(|config| config.format)
        .unwrap_or_else(|| path.map_or(Format::Jsonl, |path| Format::of(path)))
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
            let mut renderer = Renderer::new(format(settings), &layout);
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

/// Settles a prepared commit that a crash left open: it counts if its transaction was committed,
/// which the offsets of the consumer group tell.
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
    let differ = |found: u64| KafkaError::Apart {
        group: config.group().to_string(),
        found,
        known,
    };
    match (knowledge.prepared()?, found) {
        (Some(prepared), Some(found)) if found == prepared => Ok(knowledge.apply_prepared()?),
        (Some(_), found) if found.unwrap_or(0) == known => Ok(knowledge.drop_prepared()?),
        (Some(_), found) => Err(differ(found.unwrap_or(0)).into()),
        (None, Some(found)) if found != known => Err(differ(found).into()),
        // The broker has dropped the group's offsets, or somebody has set them: those in the
        // knowledge base count.
        (None, _) => Ok(()),
    }
}

/// Opens the files of outputs at their committed lengths, beside the topics `kafka`.
pub(crate) fn open_outputs(
    settings: &Settings,
    state: &Path,
    restored: &Restored,
    kafka: Option<KafkaSink>,
) -> Result<Outputs, Error> {
    let config = settings.config();
    let committed = |name: &str| restored.progress.outputs.get(name).copied().unwrap_or(0);
    let predictions = config.predictions.as_ref();
    let path = predictions.and_then(|predictions| predictions.path.as_ref());
    let predictions = match path {
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
    let path = requests.and_then(|requests| requests.path.as_ref());
    let requests = match path {
        Some(path) => Some(AppendFile::open(path, b"", committed(LABEL_REQUESTS))?),
        None => None,
    };
    Ok(Outputs {
        predictions,
        dead_letters,
        requests,
        renderer: RequestRenderer::new(&settings.schema),
        kafka,
        refused: Refused::default(),
    })
}
