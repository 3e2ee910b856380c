//! Opening what a config names as its source, and starting its readers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use perennial_connectors::kafka::{Health, KafkaError};
use perennial_connectors::source::edges::{EdgeSource, EdgesConfig, EdgesOptions, Listening};
use perennial_connectors::source::file::{FileConfig, LabelColumns};
use perennial_connectors::source::kafka::{
    KafkaOptions, KafkaSource, KafkaTopics, LabelTopic, Resume, open, partitions,
};
use perennial_connectors::source::{Simulator, Source, file};
use perennial_operators::TopicPartition;
use perennial_operators::label::LabelTiming;

use super::plan::EpochPlan;
use super::reader;
use super::reader::{RunningReader, SourceKind};
use crate::config::Mode;
use crate::config::{ConfigError, Settings};
use crate::error::Error;
use crate::link::common;
use crate::restore::Restored;

/// Opens the source and starts its readers, one a worker at most: one alone shares out what it reads.
pub fn start_readers(
    settings: &Settings,
    restored: &Restored,
    workers: usize,
    stop: Arc<AtomicBool>,
    opens: Arc<AtomicU64>,
    health: &Health,
) -> Result<Vec<RunningReader>, Error> {
    let config = settings.config();
    let mut cut = EpochPlan {
        records: config.epoch.records,
        bootstrap: 0,
        mode: config.mode,
        rate: config.source.rate,
        clustering: settings.levels.cluster().cloned(),
        tick: Duration::from_millis(config.epoch.tick_ms),
        bytes: config.epoch.bytes,
        worker: 0,
        workers,
        stop,
        opens,
    };
    let mut readers = Vec::new();
    let mut start = |origin: SourceKind, cut: &EpochPlan| -> Result<(), Error> {
        let clusters = restored.clusters.clone();
        readers.push(reader::start(
            origin,
            cut.clone(),
            &restored.progress,
            clusters,
        )?);
        Ok(())
    };
    if let Some(simulated) = &config.source.simulator {
        let simulator = Simulator::new(simulated.clone())?;
        let limit = simulated.records.unwrap_or(u64::MAX);
        cut.bootstrap = bootstrap_records(settings, simulated.records)?;
        for worker in 0..workers {
            cut.worker = worker;
            start(SourceKind::Simulated(simulator.clone(), limit), &cut)?;
        }
    } else if config.source.kafka.is_some() {
        cut.bootstrap = bootstrap_records(settings, None)?;
        let source = open_topics(settings, &restored.resume()?, health, &cut.stop)?;
        start(SourceKind::Topics(Box::new(source)), &cut)?;
    } else if let Some(edges) = &config.source.edges {
        cut.bootstrap = bootstrap_records(settings, None)?;
        let source = open_edges(settings, edges, restored, health, &cut.stop)?;
        start(SourceKind::Edges(Box::new(source)), &cut)?;
    } else {
        let mut source = open_file(settings)?;
        let total = match config.bootstrap.share {
            Some(_) => source.count()?,
            None => None,
        };
        cut.bootstrap = bootstrap_records(settings, total)?;
        start(SourceKind::Shared(source), &cut)?;
    }
    Ok(readers)
}

/// The file of a config, open.
pub fn open_file(settings: &Settings) -> Result<Box<dyn Source>, Error> {
    let source = &settings.config().source;
    let config = FileConfig {
        format: source.format,
        ..file_defaults(settings)
    };
    let labels = &settings.config().labels;
    let (Some(path), Some(columns)) = (&labels.path, label_columns(settings)) else {
        return Ok(file::open(&config, &settings.schema, true)?);
    };
    let label_config = FileConfig {
        path: path.clone(),
        format: labels.format,
        ..config.clone()
    };
    let schema = &settings.schema;
    Ok(file::open_joined(&config, schema, &label_config, &columns)?)
}

fn file_defaults(settings: &Settings) -> FileConfig {
    let source = &settings.config().source;
    let defaults = FileConfig::new(source.path.clone().unwrap_or_default());
    FileConfig {
        max_record_bytes: source.max_record_bytes.unwrap_or(defaults.max_record_bytes),
        duplicates_within: source
            .duplicates_within
            .unwrap_or(defaults.duplicates_within),
        ..defaults
    }
}

fn label_columns(settings: &Settings) -> Option<LabelColumns> {
    let id = &settings.config().labels.id;
    Some(LabelColumns {
        id: id.clone().unwrap_or(settings.schema.id.clone()),
        label: settings.schema.label.clone()?,
    })
}

/// The topics of a config, open.
pub fn open_topics(
    settings: &Settings,
    resume: &Resume,
    health: &Health,
    stop: &Arc<AtomicBool>,
) -> Result<KafkaSource, Error> {
    let config = settings.config();
    let (Some(kafka), Some(samples)) = (&config.kafka, &config.source.kafka) else {
        return Err(KafkaError::Option("there is no topic of samples".to_string()).into());
    };
    let defaults = file_defaults(settings);
    let options = KafkaOptions {
        kafka,
        group: config.group(),
        max_record_bytes: defaults.max_record_bytes,
        duplicates_within: defaults.duplicates_within,
        health: health.clone(),
        stop: stop.clone(),
    };
    let labels = match (
        &config.labels.kafka,
        label_columns(settings),
        settings.arrival,
    ) {
        (Some(topic), Some(columns), LabelTiming::SeparateStream(wait)) => Some(LabelTopic {
            topic: topic.clone(),
            columns,
            wait,
        }),
        _ => None,
    };
    let topics = KafkaTopics { samples, labels };
    Ok(open(&options, topics, &settings.schema, resume)?)
}

/// What edges share with a config, open.
fn open_edges(
    settings: &Settings,
    edges: &EdgesConfig,
    restored: &Restored,
    health: &Health,
    stop: &Arc<AtomicBool>,
) -> Result<EdgeSource, Error> {
    let config = settings.config();
    let Some(link) = &config.link else {
        return Err(KafkaError::Option("there is no link".to_string()).into());
    };
    let options = EdgesOptions {
        kafka: &link.kafka,
        group: config.group(),
        topic: &link.changes,
        listening: Listening {
            edges: common::edge_keys(link)?,
            schema: common::schema(settings),
            in_order: config.mode == Mode::Replay,
        },
        store: common::open_store(link)?,
        duplicates_within: file_defaults(settings).duplicates_within,
        stop_at_end: edges.stop_at_end,
        health: health.clone(),
        stop: stop.clone(),
    };
    let resume = restored.resume_edges();
    Ok(EdgeSource::open(options, &settings.schema, &resume)?)
}

/// The partitions that the samples and labels of a config are read from.
pub fn source_partitions(settings: &Settings) -> Result<BTreeSet<TopicPartition>, Error> {
    let config = settings.config();
    let Some(kafka) = &config.kafka else {
        return Ok(BTreeSet::new());
    };
    let samples = config.source.kafka.as_ref().map(|samples| &samples.topic);
    let labels = config.labels.kafka.as_ref().map(|labels| &labels.topic);
    let topics: Vec<&str> = samples
        .into_iter()
        .chain(labels)
        .map(String::as_str)
        .collect();
    Ok(partitions(kafka, config.group(), &topics)?)
}

/// How many records the bootstrap has.
pub fn bootstrap_records(settings: &Settings, total: Option<u64>) -> Result<u64, ConfigError> {
    let bootstrap = &settings.config().bootstrap;
    match (bootstrap.share, bootstrap.records, total) {
        (Some(share), _, Some(total)) => Ok((share * total as f64).floor() as u64),
        (Some(_), _, None) => Err(settings.loaded.error(
            "bootstrap.share",
            "the stream has no end to take a share of: give bootstrap.records",
        )),
        (None, records, _) => Ok(records.unwrap_or_default()),
    }
}
