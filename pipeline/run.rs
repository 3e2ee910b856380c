//! Running a pipeline: from a config to its report.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use perennial_connectors::knowledge_base::KnowledgeBase;
use perennial_connectors::onnx::Runtime;
use perennial_connectors::sink::{AppendFile, Format, Output, Renderer};
use perennial_connectors::source::{Simulator, Source, file};
use perennial_connectors::trainer::{Cancel, Trainer};
use perennial_operators::{Epoch, Failure};
use timely::dataflow::operators::probe::Handle;
use timely::worker::Worker;

use crate::committer::{Committed, Committer, DEAD_LETTERS, Offer, Outputs, PREDICTIONS};
use crate::config::{BaselineConfig, ConfigError, Settings};
use crate::error::Error;
use crate::graph::{self, Parts};
use crate::learner::{Learner, Workshop};
use crate::progress::Display;
use crate::reader::{self, Channel, Cut, Origin};
use crate::report::Report;
use crate::restore::{Restored, is_finished};

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
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        // A second signal ends the process at once.
        signal_hook::flag::register_conditional_shutdown(signal, 1, ending.stop.clone())
            .and_then(|_| signal_hook::flag::register(signal, ending.stop.clone()))
            .map_err(|error| Error::Failed(error.into()))?;
    }
    let knowledge = Arc::new(KnowledgeBase::open(state, &settings.fingerprint())?);
    let progress = knowledge.view().progress()?;
    if is_finished(&progress) {
        tracing::info!("the stream has been worked through before");
        return Report::read(settings, &knowledge);
    }
    if let Some(header) = progress.header {
        let (epoch, records) = (header.epoch.0, progress.records);
        tracing::info!(epoch, records, "going on after the last commit");
    }
    let runtime = Runtime::load()?;
    let trainer = Trainer::find(runtime.clone())?;
    let keep_frozen = settings
        .config()
        .report
        .baselines
        .contains(&BaselineConfig::Frozen);
    let restored = Restored::read(&knowledge.view(), keep_frozen)?;
    let channels = open_source(settings, &restored, workers, &ending)?;
    let outputs = open_outputs(settings, state, &restored)?;
    let committed = Arc::new(Committed::default());
    let failed = ending.clone();
    let config = settings.config();
    let (offer, thread) = Committer::start(
        knowledge.clone(),
        outputs,
        committed.clone(),
        config.commit.clone(),
        config.mode,
        move |error| failed.fail(error, true),
    )?;
    let cancel = trainer.cancel();
    let workshop = Workshop {
        knowledge: knowledge.clone(),
        committed: committed.clone(),
        trainer,
        runtime: runtime.clone(),
        features: settings.features(),
        classes: settings.classes.len(),
        holdout: config.training.holdout,
        trees: config.training.trees.clone(),
        threads: config.training.threads.unwrap_or_else(processors),
    };
    let learner = Mutex::new(Some(Learner::start(workshop)));
    let shared = Shared {
        settings: settings.clone(),
        restored,
        runtime,
        channels: Mutex::new(channels),
        learner,
        offer: Mutex::new(Some(offer)),
        next: Arc::new((0..workers).map(|_| AtomicU64::new(0)).collect()),
        ending: ending.clone(),
        committed: committed.clone(),
        cancel,
    };
    dataflow(shared, workers)?;
    let _ = thread.join();
    match ending.take() {
        Some(error) => Err(error),
        None => Report::read(settings, &knowledge),
    }
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// What the workers take their parts from.
struct Shared {
    settings: Settings,
    restored: Restored,
    runtime: Runtime,
    channels: Mutex<Vec<Option<Channel>>>,
    learner: Mutex<Option<Learner>>,
    offer: Mutex<Option<Offer>>,
    next: Arc<Vec<AtomicU64>>,
    ending: Ending,
    committed: Arc<Committed>,
    cancel: Cancel,
}

/// Runs the workers until the stream or the run has ended.
fn dataflow(shared: Shared, workers: usize) -> Result<(), Error> {
    let config = timely::Config::process(workers);
    let guards = timely::execute(config, move |worker| {
        if let Err(failure) = work(worker, &shared) {
            shared.ending.fail(Error::Failed(failure), true);
        }
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
    let parts = Parts {
        reader: take(
            &mut shared
                .channels
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        ),
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
        renderer: settings
            .config()
            .predictions
            .as_ref()
            .map(|_| renderer(settings)),
        runtime: shared.runtime.clone(),
    };
    let probe = graph::build(
        worker,
        settings,
        &shared.restored,
        parts,
        shared.ending.stop.clone(),
        shared.next.clone(),
        &shared.ending,
    )?;
    let mut display = (index == 0).then(|| Display::new(&shared.restored.progress));
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
    shared.committed.close();
    shared.cancel.cancel();
    Ok(())
}

/// Whether every epoch that a source has opened is with the committer.
fn drained(probe: &Handle<Epoch>, next: &[AtomicU64]) -> bool {
    let opened = next.iter().map(|next| next.load(Ordering::Acquire)).min();
    opened.is_none_or(|opened| !probe.less_than(&Epoch(opened)))
}

/// Opens the source and starts its readers, one a worker at most.
fn open_source(
    settings: &Settings,
    restored: &Restored,
    workers: usize,
    ending: &Ending,
) -> Result<Vec<Option<Channel>>, Error> {
    let config = settings.config();
    let mut cut = Cut {
        records: config.epoch.records,
        bootstrap: 0,
        mode: config.mode,
        rate: config.source.rate,
        tick: Duration::from_millis(config.epoch.tick_ms),
        worker: 0,
        workers,
        stop: ending.stop.clone(),
    };
    let mut channels = Vec::new();
    if let Some(simulated) = &config.source.simulator {
        let simulator = Simulator::new(simulated.clone())?;
        let limit = simulated.records.unwrap_or(u64::MAX);
        cut.bootstrap = bootstrap_records(settings, simulated.records)?;
        for worker in 0..workers {
            cut.worker = worker;
            let origin = Origin::Simulated(simulator.clone(), limit);
            channels.push(Some(reader::start(
                origin,
                cut.clone(),
                &restored.progress,
            )?));
        }
    } else {
        let mut source = open_file(settings)?;
        let total = match config.bootstrap.share {
            Some(_) => source.count()?,
            None => None,
        };
        cut.bootstrap = bootstrap_records(settings, total)?;
        let origin = Origin::Shared(source);
        channels.push(Some(reader::start(origin, cut, &restored.progress)?));
    }
    channels.resize_with(workers, || None);
    Ok(channels)
}

/// The file of a config, open.
pub fn open_file(settings: &Settings) -> Result<Box<dyn Source>, Error> {
    let source = &settings.config().source;
    let defaults = file::FileConfig::new(source.path.clone().unwrap_or_default());
    let config = file::FileConfig {
        format: source.format,
        max_record_bytes: source.max_record_bytes.unwrap_or(defaults.max_record_bytes),
        duplicates_within: source
            .duplicates_within
            .unwrap_or(defaults.duplicates_within),
        ..defaults
    };
    let labels = &settings.config().labels;
    let (Some(path), Some(label)) = (&labels.path, &settings.schema.label) else {
        return Ok(file::open(&config, &settings.schema, true)?);
    };
    let label_config = file::FileConfig {
        path: path.clone(),
        format: labels.format,
        ..config.clone()
    };
    let columns = file::LabelColumns {
        id: labels.id.clone().unwrap_or(settings.schema.id.clone()),
        label: label.clone(),
    };
    let schema = &settings.schema;
    Ok(file::open_joined(&config, schema, &label_config, &columns)?)
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

fn format(settings: &Settings) -> Format {
    let predictions = settings.config().predictions.as_ref();
    predictions.map_or(Format::Jsonl, |config| {
        config.format.unwrap_or_else(|| Format::of(&config.path))
    })
}

fn renderer(settings: &Settings) -> Renderer {
    Renderer::new(format(settings), &settings.classes)
}

fn open_outputs(settings: &Settings, state: &Path, restored: &Restored) -> Result<Outputs, Error> {
    let config = settings.config();
    let committed = |name: &str| restored.progress.outputs.get(name).copied().unwrap_or(0);
    let predictions = match &config.predictions {
        Some(predictions) => Some(Output::open(
            &predictions.path,
            format(settings),
            &renderer(settings).header(),
            committed(PREDICTIONS),
        )?),
        None => None,
    };
    let path: PathBuf = config
        .dead_letters
        .path
        .clone()
        .unwrap_or_else(|| state.join("dead-letters.jsonl"));
    let dead_letters = AppendFile::open(&path, b"", committed(DEAD_LETTERS))?;
    Ok(Outputs {
        predictions,
        dead_letters,
    })
}
