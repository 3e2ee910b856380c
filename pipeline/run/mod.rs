//! Running a pipeline: from a config to its report.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use perennial_connectors::kafka::{Health, KafkaError, TopicFormat, register_predictions};
use perennial_connectors::knowledge_base::KnowledgeBase;
use perennial_connectors::onnx::Runtime;
use perennial_connectors::sink::kafka::{KafkaSink, MessageRenderer, committed};
use perennial_connectors::sink::{AppendFile, Format, Output, Renderer, RequestRenderer};
use perennial_connectors::trainer::{BuiltIn, Cancel, CommandTrainer, Trainer};
use perennial_operators::learn::Gate;
use perennial_operators::share::SharePolicy;
use perennial_operators::{Epoch, Failure};
use timely::dataflow::operators::probe::Handle;
use timely::worker::Worker;

use crate::committer::{Committed, Committer, Offer};
use crate::config::{BaselineConfig, Role, Settings};
use crate::error::Error;
use crate::graph::{Parts, Render};
use crate::learning::{Learner, Workshop};
use crate::link::follow::LinkInbox;
use crate::link::{Ends, Outgoing};
use crate::outputs::{DEAD_LETTERS, LABEL_REQUESTS, Outputs, PREDICTIONS};
use crate::progress::Display;
use crate::reader::{Channel, LEAD};
use crate::report::Report;
use crate::restore::{Restored, is_finished};
use crate::signals::stop_when_told;
use crate::sources::{source_partitions, start_readers};
use crate::{graph, link};

/// How a worker waits when there is nothing to do.
const PARK: Duration = Duration::from_millis(1);
/// How long a run that is told to stop tries to commit what it has begun.
const PATIENCE: Duration = Duration::from_secs(2);

/// What ends a run before its stream does.
#[derive(Clone, Default)]
struct Ending {
    /// The source opens no further epoch.
    stop: Arc<AtomicBool>,
    /// The workers leave at once.
    abort: Arc<AtomicBool>,
    /// The first failure.
    failure: Arc<Mutex<Option<Error>>>,
}

impl Ending {
    fn fail(&self, error: Error, at_once: bool) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert(error);
        self.stop.store(true, Ordering::SeqCst);
        self.abort.fetch_or(at_once, Ordering::SeqCst);
    }

    fn take(&self) -> Option<Error> {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.take()
    }
}

impl graph::Report for Ending {
    fn source_failed(&self, failure: Failure) {
        self.fail(Error::Failed(failure), false);
    }

    fn failed(&self, failure: Failure) {
        self.fail(Error::Failed(failure), true);
    }
}

/// Runs a pipeline to the end of its stream, or until it is told to stop, and returns its report.
pub fn run(settings: &Settings, state: &Path, workers: usize) -> Result<Report, Error> {
    let ending = Ending::default();
    stop_when_told(&ending.stop)?;
    let knowledge = Arc::new(KnowledgeBase::open(state, &settings.fingerprint())?);
    let health = Health::default();
    let sink = open_sink(settings, &health, &ending.stop)?;
    settle(settings, &knowledge, sink.as_ref())?;
    let progress = knowledge.view().progress()?;
    if is_finished(&progress) {
        tracing::info!("the stream has been worked through before");
        Ends::new(settings).send_rest(&knowledge, &ending.stop)?;
        return Report::read(settings, &knowledge);
    }
    if let Some(header) = progress.header {
        let (epoch, records) = (header.epoch.0, progress.records);
        tracing::info!(epoch, records, "going on after the last commit");
    }
    let config = settings.config();
    let ends = Ends::new(settings);
    ends.prepare()?;
    ends.settle(&knowledge)?;
    let share = link::policy(settings)?;
    let runtime = Runtime::load()?;
    let trains = ends.trains();
    let trainer = match trains {
        false => None,
        true => Some(open_trainer(settings, state, &runtime)?),
    };
    let keep_frozen = config.report.baselines.contains(&BaselineConfig::Frozen);
    let restored = Restored::read(&knowledge.view(), keep_frozen, graph::recents(settings) > 0)?;
    let stop = ending.stop.clone();
    let outputs = open_outputs(settings, state, &restored, sink)?;
    let schema_id = schema_id(settings)?;
    // An edge that trains nothing has to wait for what answers.
    let has_bootstrap = !config.bootstrap.is_none();
    let waits = config.role == Role::Edge && !(trains && has_bootstrap);
    let is_held = waits && !restored.answers();
    let gate = Gate {
        opens: Arc::new(AtomicU64::new(if is_held { u64::MAX } else { 0 })),
        after: config.epoch.in_flight + LEAD,
    };
    let opens = gate.opens.clone();
    let readers = start_readers(settings, &restored, workers, stop, opens, &health)?;
    let (channels, mut threads): (Vec<_>, Vec<_>) = readers
        .into_iter()
        .map(|(channel, thread)| (Some(channel), thread))
        .unzip();
    let committed = Arc::new(Committed::new(health));
    let failed = ending.clone();
    let (offer, committing) = Committer::start(
        knowledge.clone(),
        outputs,
        ends.outbox(&knowledge)?,
        committed.clone(),
        config,
        move |error| failed.fail(error, true),
    )?;
    threads.push(committing);
    let (mut learner, mut inbox, mut cancel) = (None, None, None);
    if let Some(trainer) = trainer {
        cancel = Some(trainer.cancel());
        let workshop = Arc::new(workshop(
            settings,
            knowledge.clone(),
            committed.clone(),
            trainer,
            &runtime,
        ));
        let (end, training) = Learner::start(workshop.clone());
        learner = Some(end);
        threads.push(training);
        if let Some((end, judging)) = ends.canary(&workshop, &ending.stop) {
            inbox = Some(end);
            threads.push(judging);
        }
    }
    if let Some((end, following)) = ends.follow(&knowledge, &committed, &ending.stop)? {
        inbox = Some(end);
        threads.push(following);
        if is_held {
            tracing::warn!("nothing answers yet: waiting for the cloud's first model");
            committed.set_stage(Some("waiting for the cloud's first model".to_string()));
        }
    }
    let outgoing = ends.outgoing(&knowledge, &committed)?;
    let shared = Shared {
        settings: settings.clone(),
        restored: Mutex::new(std::iter::repeat_n(Arc::new(restored), workers).collect()),
        runtime,
        channels: Mutex::new(channels),
        learner: Mutex::new(learner),
        inbox: Mutex::new(inbox),
        gate,
        share,
        offer: Mutex::new(Some(offer)),
        next: Arc::new((0..workers).map(|_| AtomicU64::new(0)).collect()),
        ending: ending.clone(),
        committed: committed.clone(),
        cancel,
        schema_id,
    };
    let worked = dataflow(shared, workers);
    ending.stop.store(true, Ordering::SeqCst);
    // While a process ends, what RocksDB and librdkafka need is taken away: nobody may be using them then.
    for thread in threads {
        // A panic has ended the process already.
        let _ = thread.join();
    }
    // Of what is committed by now.
    outgoing.into_iter().for_each(Outgoing::finish);
    ends.settle(&knowledge)?;
    ends.tell_waiting(&knowledge)?;
    worked?;
    match ending.take() {
        Some(error) => Err(error),
        None => Report::read(settings, &knowledge),
    }
}

/// What the learner works with.
fn workshop(
    settings: &Settings,
    knowledge: Arc<KnowledgeBase>,
    committed: Arc<Committed>,
    trainer: Trainer,
    runtime: &Runtime,
) -> Workshop {
    let config = settings.config();
    Workshop {
        knowledge,
        committed,
        trainer,
        runtime: runtime.clone(),
        features: settings.features(),
        kind: settings.label_kind(),
        holdout: config.training.holdout,
        trees: config.training.trees.clone(),
        gate_margin: config.gate.margin,
        max_samples: config.training.max_samples,
        candidates: config.training.candidates.clone(),
        recognizes: settings.unseen.is_some(),
        threads: config.training.threads.unwrap_or_else(processors),
    }
}

/// What fits models. A command's trainings have their folders in the state, which is of one process at a time.
fn open_trainer(settings: &Settings, state: &Path, runtime: &Runtime) -> Result<Trainer, Error> {
    let runtime = runtime.clone();
    let Some(command) = &settings.command else {
        return Ok(Trainer::BuiltIn(BuiltIn::find(runtime)?));
    };
    let folder = std::path::absolute(state.join("trainings"))
        .map_err(|error| Error::File(state.to_path_buf(), error))?;
    let schema = settings.schema.clone();
    let trainer = CommandTrainer::new(command.clone(), schema, folder, runtime)?;
    Ok(Trainer::Command(Box::new(trainer)))
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// What the workers take their parts from.
struct Shared {
    settings: Settings,
    /// One for each worker, which lets go of it once its graph is built: it holds samples.
    restored: Mutex<Vec<Arc<Restored>>>,
    runtime: Runtime,
    channels: Mutex<Vec<Option<Channel>>>,
    learner: Mutex<Option<Learner>>,
    inbox: Mutex<Option<LinkInbox>>,
    gate: Gate,
    share: Option<SharePolicy>,
    offer: Mutex<Option<Offer>>,
    next: Arc<Vec<AtomicU64>>,
    ending: Ending,
    committed: Arc<Committed>,
    cancel: Option<Cancel>,
    /// The id of the schema of predictions in a registry, if they are Avro and there is one.
    schema_id: Option<u32>,
}

/// Registers the schema of predictions, where they are Avro and there is a registry.
fn schema_id(settings: &Settings) -> Result<Option<u32>, Error> {
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

/// Runs the workers until the stream or the run has ended.
fn dataflow(shared: Shared, workers: usize) -> Result<(), Error> {
    let config = timely::Config::process(workers);
    let guards = timely::execute(config, move |worker| {
        if let Err(failure) = work(worker, &shared) {
            shared.ending.fail(Error::Failed(failure), true);
        }
        shared.committed.close();
        shared.cancel.iter().for_each(Cancel::cancel);
        for dataflow in worker.installed_dataflows() {
            worker.drop_dataflow(dataflow);
        }
    })
    .map_err(|error| Error::Failed(error.into()))?;
    for result in guards.join() {
        result.map_err(|error| Error::Failed(format!("a worker has failed: {error}").into()))?;
    }
    Ok(())
}

fn work(worker: &mut Worker, shared: &Shared) -> Result<(), Failure> {
    let index = worker.index();
    let take = |channels: &mut Vec<Option<Channel>>| channels.get_mut(index)?.take();
    let settings = &shared.settings;
    let restored = {
        let mut all = shared
            .restored
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        all.pop().ok_or("there are more workers than were meant")?
    };
    let parts = Parts {
        reader: take(
            &mut shared
                .channels
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        ),
        inbox: match index {
            0 => shared
                .inbox
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
            _ => None,
        },
        learner: match index {
            0 => shared
                .learner
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
            _ => None,
        },
        offer: match index {
            0 => shared
                .offer
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
            _ => None,
        },
        gate: shared.gate.clone(),
        share: shared.share.clone(),
        renderer: render(settings, shared.schema_id)?,
        runtime: shared.runtime.clone(),
    };
    let probe = graph::build(
        worker,
        settings,
        &restored,
        parts,
        shared.ending.stop.clone(),
        shared.next.clone(),
        &shared.ending,
    )?;
    let mut display = (index == 0).then(|| Display::new(&restored.progress, settings.label_kind()));
    drop(restored);
    let mut stopping: Option<Instant> = None;
    while worker.has_dataflows() && !probe.done() {
        worker.step_or_park(Some(PARK));
        if let Some(display) = &mut display {
            display.show(&shared.committed);
        }
        if shared.ending.abort.load(Ordering::Relaxed) {
            break;
        }
        if shared.ending.stop.load(Ordering::Relaxed) {
            let since = *stopping.get_or_insert_with(Instant::now);
            if drained(&probe, &shared.next) || since.elapsed() > PATIENCE {
                break;
            }
        }
    }
    Ok(())
}

/// Whether every epoch that a source has opened is with the committer.
fn drained(probe: &Handle<Epoch>, next: &[AtomicU64]) -> bool {
    let opened = next.iter().map(|next| next.load(Ordering::Acquire)).min();
    opened.is_none_or(|opened| !probe.less_than(&Epoch(opened)))
}

fn format(settings: &Settings) -> Format {
    let predictions = settings.config().predictions.as_ref();
    let path = predictions.and_then(|config| config.path.as_ref());
    predictions
        .and_then(|config| config.format)
        .unwrap_or_else(|| path.map_or(Format::Jsonl, |path| Format::of(path)))
}

/// What renders predictions on one worker.
fn render(settings: &Settings, schema_id: Option<u32>) -> Result<Option<Render>, Failure> {
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
fn open_sink(
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
fn settle(
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

fn open_outputs(
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
