//! Sources: opens the source that a config names, and starts its readers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use perennial_connectors::kafka::{Health, KafkaError};
use perennial_connectors::source::edges::{EdgeSource, EdgesConfig, EdgesOptions, KnownEdges};
use perennial_connectors::source::file::{FileConfig, LabelColumns};
use perennial_connectors::source::kafka::{
    KafkaOptions, KafkaSource, KafkaTopics, LabelTopic, Resume, open, partitions,
};
use perennial_connectors::source::{Simulator, Source, file};
use perennial_operators::TopicPartition;
use perennial_operators::label::LabelTiming;

use super::epoch_plan::EpochPlan;
use super::reader::{self, RunningReader, SourceKind};
use crate::config::{ConfigError, Mode, Settings};
use crate::error::Error;
use crate::link::{common, reload};
use crate::restore::Restored;

/// Opens the source and starts its readers: one for each worker of a simulated stream, else a
/// single one that deals its records to all workers.
pub fn start_readers(
    settings: &Settings,
    restored: &Restored,
    workers: usize,
    stop: Arc<AtomicBool>,
    opens: Arc<AtomicU64>,
    health: &Health,
) -> Result<Vec<RunningReader>, Error> {
    let config = settings.config();
    let mut plan = EpochPlan {
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
    let mut start = |source: SourceKind, plan: &EpochPlan| -> Result<(), Error> {
        let (progress, clusters) = (&restored.progress, restored.clusters.clone());
        readers.push(reader::start(source, plan.clone(), progress, clusters)?);
        Ok(())
    };
    if let Some(simulated) = &config.source.simulator {
        let simulator = Simulator::new(simulated.clone())?;
        let limit = simulated.records.unwrap_or(u64::MAX);
        plan.bootstrap = bootstrap_records(settings, simulated.records)?;
        for worker in 0..workers {
            plan.worker = worker;
            start(SourceKind::Simulated(simulator.clone(), limit), &plan)?;
        }
    } else if config.source.kafka.is_some() {
        plan.bootstrap = bootstrap_records(settings, None)?;
        let source = open_topics(settings, &restored.resume()?, health, &plan.stop)?;
        start(SourceKind::Topics(Box::new(source)), &plan)?;
    } else if let Some(edges) = &config.source.edges {
        plan.bootstrap = bootstrap_records(settings, None)?;
        let source = open_edges(settings, edges, restored, health, &plan.stop)?;
        start(SourceKind::Edges(Box::new(source)), &plan)?;
    } else {
        let mut source = open_file(settings)?;
        let total = match config.bootstrap.share {
            Some(_) => source.count()?,
            None => None,
        };
        plan.bootstrap = bootstrap_records(settings, total)?;
        start(SourceKind::File(source), &plan)?;
    }
    Ok(readers)
}

/// Opens the file of a config, with its file of labels if there is one.
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

/// Opens the topics of a config, to resume at `resume`.
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
        levels: &settings.levels,
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

/// Opens the changes that edges share with the pipeline of a config.
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
        listening: KnownEdges {
            edges: common::edge_rights(link, &settings.schema)?,
            schema: common::schema(settings),
            in_order: config.mode == Mode::Replay,
        },
        reload: Box::new(reload::on_signal(settings)?),
        store: common::open_store(link)?,
        duplicates_within: file_defaults(settings).duplicates_within,
        levels: &settings.levels,
        stop_at_end: edges.stop_at_end,
        on_gone: edges.on_gone,
        health: health.clone(),
        stop: stop.clone(),
    };
    let resume = restored.resume_edges();
    Ok(EdgeSource::open(options, &settings.schema, &resume)?)
}

/// The partitions of the topics of samples and labels of a config.
pub fn source_partitions(settings: &Settings) -> Result<BTreeSet<TopicPartition>, Error> {
    let config = settings.config();
    let Some(kafka) = &config.kafka else {
        return Ok(BTreeSet::new());
    };
    let samples = config.source.kafka.as_ref().map(|samples| &samples.topic);
    let labels = config.labels.kafka.as_ref().map(|labels| &labels.topic);
    let topics = samples.into_iter().chain(labels);
    let topics: Vec<&str> = topics.map(String::as_str).collect();
    Ok(partitions(kafka, config.group(), &topics)?)
}

/// Number of records of the bootstrap; `total` is that of the stream, if it has an end.
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
