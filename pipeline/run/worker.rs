//! A worker of the dataflow: builds its graph and runs it until it is drained.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use perennial_connectors::onnx::Runtime;
use perennial_connectors::trainer::Cancel;
use perennial_operators::ingest::Pace;
use perennial_operators::learn::FirstModelGate;
use perennial_operators::share::SharePolicy;
use perennial_operators::{Epoch, Failure};
use timely::dataflow::operators::probe::Handle;
use timely::worker::Worker;

use super::outputs::render;
use super::progress::Display;
use super::shutdown::Shutdown;
use super::{PARK, PATIENCE};
use crate::commit::committer::CommitSender;
use crate::config::Settings;
use crate::error::Error;
use crate::graph;
use crate::graph::WorkerParts;
use crate::input::reader::Channel;
use crate::learning::Learner;
use crate::link::inbox::LinkInbox;
use crate::restore::Restored;
use crate::run_status::CommitWatch;

/// What the workers take their parts from.
pub(super) struct RunParts {
    pub(super) settings: Settings,
    /// One for each worker, which lets go of it once its graph is built: it holds samples.
    pub(super) restored: Mutex<Vec<Arc<Restored>>>,
    pub(super) runtime: Runtime,
    pub(super) channels: Mutex<Vec<Option<Channel>>>,
    pub(super) learner: Mutex<Option<Learner>>,
    pub(super) inbox: Mutex<Option<LinkInbox>>,
    pub(super) gate: FirstModelGate,
    pub(super) share: Option<SharePolicy>,
    pub(super) offer: Mutex<Option<CommitSender>>,
    pub(super) next: Arc<Vec<AtomicU64>>,
    pub(super) ending: Shutdown,
    pub(super) committed: Arc<CommitWatch>,
    pub(super) cancel: Option<Cancel>,
    /// The id of the schema of predictions in a registry, if they are Avro and there is one.
    pub(super) schema_id: Option<u32>,
}

/// Runs the workers until the stream or the run has ended.
pub(super) fn dataflow(shared: RunParts, workers: usize) -> Result<(), Error> {
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

fn work(worker: &mut Worker, shared: &RunParts) -> Result<(), Failure> {
    let index = worker.index();
    let settings = &shared.settings;
    let first = (index == 0).then_some(());
    let restored = {
        let mut all = locked(&shared.restored);
        all.pop().ok_or("there are more workers than were meant")?
    };
    let pace = Pace {
        probe: Handle::new(),
        epochs_in_flight: settings.config().epoch.in_flight,
        stop: shared.ending.stop.clone(),
        next: shared.next.clone(),
    };
    let parts = WorkerParts {
        pace,
        reader: locked(&shared.channels)
            .get_mut(index)
            .and_then(Option::take),
        inbox: first.and_then(|()| locked(&shared.inbox).take()),
        learner: first.and_then(|()| locked(&shared.learner).take()),
        offer: first.and_then(|()| locked(&shared.offer).take()),
        gate: shared.gate.clone(),
        share: shared.share.clone(),
        renderer: render(settings, shared.schema_id)?,
        runtime: shared.runtime.clone(),
        // What the source read before it failed is still to be committed.
        on_source_failure: shared.ending.on_failure(false),
        on_failure: shared.ending.on_failure(true),
    };
    let probe = graph::build(worker, settings, &restored, parts)?;
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

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether every epoch that a source has opened is with the committer.
fn drained(probe: &Handle<Epoch>, next: &[AtomicU64]) -> bool {
    let opened = next.iter().map(|next| next.load(Ordering::Acquire)).min();
    opened.is_none_or(|opened| !probe.less_than(&Epoch(opened)))
}
