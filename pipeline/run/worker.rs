//! Worker of the dataflow: builds its graph and runs it until it is drained.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use perennial_connectors::onnx::Runtime;
use perennial_connectors::trainer::Cancel;
use perennial_operators::ingest::Pace;
use perennial_operators::learn::FirstModelGate;
use perennial_operators::share::SharePolicy;
use perennial_operators::{Epoch, Failure};
use timely::dataflow::operators::probe::Handle;
use timely::worker::Worker;

use super::outputs::renderer;
use super::progress::Display;
use super::shutdown::Shutdown;
use crate::commit::committer::CommitSender;
use crate::config::Settings;
use crate::error::Error;
use crate::graph::{self, SourceParts, Trainers, WorkerParts};
use crate::input::reader::Channel;
use crate::learning::Learner;
use crate::link::outcomes::LinkOutcomes;
use crate::restore::Restored;
use crate::run_status::CommitWatch;

/// How long a worker parks that nothing activates, before it looks whether the run is to stop.
const PARK: Duration = Duration::from_millis(10);

/// How long a run that is to stop tries to commit the epochs that it has opened.
const PATIENCE: Duration = Duration::from_secs(2);

/// Parts of a run that its workers share, and those of each worker.
pub(super) struct RunParts {
    pub(super) settings: Settings,
    /// Parts of each worker, until it takes them.
    pub(super) own: Mutex<Vec<Option<OwnParts>>>,
    pub(super) runtime: Runtime,
    pub(super) gate: FirstModelGate,
    pub(super) share: Option<SharePolicy>,
    /// For each worker, the epoch that its source opens next.
    pub(super) next: Arc<Vec<AtomicU64>>,
    pub(super) shutdown: Shutdown,
    pub(super) watch: Arc<CommitWatch>,
    /// Cancels trainings.
    pub(super) cancel: Option<Cancel>,
    /// Id of the schema of predictions in a registry, if they are Avro and there is one.
    pub(super) schema_id: Option<u32>,
}

/// Parts of one worker.
pub(super) struct OwnParts {
    /// Shared by all workers, and dropped once their graphs are built: it holds samples.
    restored: Arc<Restored>,
    reader: Option<Channel>,
    learner: Option<Learner>,
    outcomes: Option<LinkOutcomes>,
    commit: Option<CommitSender>,
}

/// Parts of each worker. The first one alone gets the learner, the link's outcomes and the
/// committer.
pub(super) fn own_parts(
    workers: usize,
    restored: Restored,
    readers: Vec<Channel>,
    mut learner: Option<Learner>,
    mut outcomes: Option<LinkOutcomes>,
    commit: CommitSender,
) -> Vec<Option<OwnParts>> {
    let restored = Arc::new(restored);
    let mut readers = readers.into_iter();
    let mut commit = Some(commit);
    let own = (0..workers).map(|_| OwnParts {
        restored: restored.clone(),
        reader: readers.next(),
        learner: learner.take(),
        outcomes: outcomes.take(),
        commit: commit.take(),
    });
    own.map(Some).collect()
}

/// Runs the workers until the stream or the run has ended.
pub(super) fn dataflow(parts: RunParts, workers: usize) -> Result<(), Error> {
    let config = timely::Config::process(workers);
    let guards = timely::execute(config, move |worker| {
        if let Err(failure) = work(worker, &parts) {
            parts.shutdown.fail(Error::Failed(failure), true);
        }
        // Nothing more is committed: threads that wait for a commit or a training are let go.
        parts.watch.close();
        parts.cancel.iter().for_each(Cancel::cancel);
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

/// Builds the graph on a worker and runs it.
fn work(worker: &mut Worker, parts: &RunParts) -> Result<(), Failure> {
    let index = worker.index();
    let own = {
        let mut all = parts.own.lock().unwrap_or_else(PoisonError::into_inner);
        all.get_mut(index).and_then(Option::take)
    };
    let own = own.ok_or("there are more workers than were meant")?;
    let restored = own.restored.clone();
    let kind = parts.settings.label_kind();
    let probe = {
        let worker_parts = worker_parts(own, parts)?;
        graph::build(worker, &parts.settings, &restored, worker_parts)?
    };
    let mut display = (index == 0).then(|| Display::new(&restored.progress, kind));
    drop(restored);
    let shutdown = &parts.shutdown;
    let mut stopping: Option<Instant> = None;
    while worker.has_dataflows() && !probe.done() {
        worker.step_or_park(Some(PARK));
        if let Some(display) = &mut display {
            display.show(&parts.watch);
        }
        if shutdown.abort.load(Ordering::Relaxed) {
            break;
        }
        if shutdown.stop.load(Ordering::Relaxed) {
            let since = *stopping.get_or_insert_with(Instant::now);
            if is_drained(&probe, &parts.next) || since.elapsed() > PATIENCE {
                break;
            }
        }
    }
    Ok(())
}

/// What a worker brings to its graph.
fn worker_parts(own: OwnParts, parts: &RunParts) -> Result<WorkerParts, Failure> {
    let pace = Pace {
        probe: Handle::new(),
        epochs_in_flight: parts.settings.config().epoch.in_flight,
        stop: parts.shutdown.stop.clone(),
        next: parts.next.clone(),
    };
    Ok(WorkerParts {
        source: SourceParts {
            reader: own.reader,
            pace,
            // Epochs that the source opened before it failed are still to be committed.
            on_failure: parts.shutdown.on_failure(false),
        },
        runtime: parts.runtime.clone(),
        renderer: renderer(&parts.settings, parts.schema_id)?,
        share: parts.share.clone(),
        trainers: Trainers {
            learner: own.learner,
            outcomes: own.outcomes,
            gate: parts.gate.clone(),
        },
        commit: own.commit,
        on_failure: parts.shutdown.on_failure(true),
    })
}

/// Whether the committer has every epoch that a source has opened.
fn is_drained(probe: &Handle<Epoch>, next: &[AtomicU64]) -> bool {
    let opened = next.iter().map(|next| next.load(Ordering::Acquire)).min();
    opened.is_none_or(|opened| !probe.less_than(&Epoch(opened)))
}
