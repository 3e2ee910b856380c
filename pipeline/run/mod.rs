//! Running a pipeline: from a config to its report.

mod outputs;
pub mod progress;
mod shutdown;
pub mod signals;
mod trainer;
mod worker;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use perennial_connectors::kafka::Health;
use perennial_connectors::knowledge_base::KnowledgeBase;
use perennial_connectors::onnx::Runtime;
use perennial_operators::learn::FirstModelGate;

use self::outputs::{open_outputs, open_sink, schema_id, settle};
use self::shutdown::Shutdown;
use self::signals::stop_when_told;
use self::trainer::{open_trainer, workshop};
use self::worker::{RunParts, dataflow};
use crate::commit::committer::Committer;
use crate::config::BaselineConfig;
use crate::config::{Role, Settings};
use crate::error::Error;
use crate::input::reader::MAX_LEAD;
use crate::input::sources::start_readers;
use crate::learning::Learner;
use crate::link::common;
use crate::link::role::LinkRole;
use crate::link::send_thread::SendThread;
use crate::report::Report;
use crate::restore::{Restored, is_finished};
use crate::run_status::CommitWatch;

/// How a worker waits when there is nothing to do.
const PARK: Duration = Duration::from_millis(1);
/// How long a run that is told to stop tries to commit what it has begun.
const PATIENCE: Duration = Duration::from_secs(2);

/// Runs a pipeline to the end of its stream, or until it is told to stop, and returns its report.
pub fn run(settings: &Settings, state: &Path, workers: usize) -> Result<Report, Error> {
    let ending = Shutdown::default();
    stop_when_told(&ending.stop)?;
    let knowledge = Arc::new(KnowledgeBase::open(state, &settings.fingerprint())?);
    let health = Health::default();
    let sink = open_sink(settings, &health, &ending.stop)?;
    settle(settings, &knowledge, sink.as_ref())?;
    let progress = knowledge.view().progress()?;
    if is_finished(&progress) {
        tracing::info!("the stream has been worked through before");
        LinkRole::new(settings).send_rest(&knowledge, &ending.stop)?;
        return Report::read(settings, &knowledge);
    }
    if let Some(header) = progress.header {
        let (epoch, records) = (header.epoch.0, progress.records);
        tracing::info!(epoch, records, "going on after the last commit");
    }
    let config = settings.config();
    let ends = LinkRole::new(settings);
    ends.prepare()?;
    ends.settle(&knowledge)?;
    let share = common::policy(settings)?;
    let runtime = Runtime::load()?;
    let trains = ends.trains();
    let trainer = match trains {
        false => None,
        true => Some(open_trainer(settings, state, &runtime)?),
    };
    let keep_frozen = config.report.baselines.contains(&BaselineConfig::Frozen);
    let restored = Restored::read(
        &knowledge.view(),
        keep_frozen,
        settings.recent_samples() > 0,
    )?;
    let stop = ending.stop.clone();
    let outputs = open_outputs(settings, state, &restored, sink)?;
    let schema_id = schema_id(settings)?;
    // An edge that trains nothing has to wait for what answers.
    let has_bootstrap = !config.bootstrap.is_none();
    let waits = config.role == Role::Edge && !(trains && has_bootstrap);
    let is_held = waits && !restored.answers();
    let gate = FirstModelGate {
        opens: Arc::new(AtomicU64::new(if is_held { u64::MAX } else { 0 })),
        after: config.epoch.in_flight + MAX_LEAD,
    };
    let opens = gate.opens.clone();
    let readers = start_readers(settings, &restored, workers, stop, opens, &health)?;
    let (channels, mut threads): (Vec<_>, Vec<_>) = readers
        .into_iter()
        .map(|(channel, thread)| (Some(channel), thread))
        .unzip();
    let committed = Arc::new(CommitWatch::new(health));
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
    let shared = RunParts {
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
    outgoing.into_iter().for_each(SendThread::finish);
    ends.settle(&knowledge)?;
    ends.tell_waiting(&knowledge)?;
    worked?;
    match ending.take() {
        Some(error) => Err(error),
        None => Report::read(settings, &knowledge),
    }
}
