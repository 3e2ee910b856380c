//! Running a pipeline: from a config to its report.

mod models;
mod outputs;
pub(crate) mod progress;
mod settle;
mod shutdown;
pub(crate) mod signals;
mod supervisor;
mod trainer;
mod wait;
mod worker;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use perennial_connectors::kafka::Health;
use perennial_connectors::knowledge_base::KnowledgeBase;
use perennial_connectors::onnx::Runtime;
use perennial_connectors::sink::kafka::KafkaSink;
use perennial_connectors::trainer::{Cancel, Trainer};
use perennial_operators::learn::FirstModelGate;

use self::models::retire_unloadable;
use self::outputs::{open_outputs, open_sink, schema_id};
use self::settle::settle;
use self::shutdown::Shutdown;
use self::signals::stop_on_signal;
use self::trainer::{open_trainer, training_context};
use self::wait::wait_for_kafka;
use self::worker::{RunParts, dataflow, own_parts};
use crate::commit::committer::{CommitSender, Committer};
use crate::commit::outputs::Outputs;
use crate::config::{BaselineConfig, Role, Settings};
use crate::error::Error;
use crate::input::reader::{Channel, MAX_LEAD};
use crate::input::sources::start_readers;
use crate::learning::Learner;
use crate::link::common;
use crate::link::outcomes::LinkOutcomes;
use crate::link::role::LinkRole;
use crate::link::send_thread::SendThread;
use crate::report::Report;
use crate::restore::{Restored, is_finished};
use crate::run_status::CommitWatch;

/// Runs a pipeline until its stream has ended or the process gets a signal to stop, and returns its
/// report.
pub fn run(settings: &Settings, state: &Path, workers: usize) -> Result<Report, Error> {
    let shutdown = Shutdown::default();
    stop_on_signal(&shutdown.stop)?;
    let knowledge = Arc::new(KnowledgeBase::open(state, &settings.fingerprint())?);
    let link = LinkRole::new(settings);
    link.check_keys()?;
    let health = Health::default();
    if !wait_for_kafka(settings, &health, &shutdown.stop)? {
        return Report::read(settings, &knowledge);
    }
    let schema_id = schema_id(settings, &health, &shutdown.stop)?;
    if shutdown.stop.load(Ordering::Relaxed) {
        return Report::read(settings, &knowledge);
    }
    let mut sink = open_sink(settings, &health, &shutdown.stop)?;
    settle(settings, &knowledge, sink.as_mut())?;
    let progress = knowledge.view().progress()?;
    if is_finished(&progress) {
        tracing::info!("this stream is already complete");
        supervisor::tell_ready();
        link.send_rest(&knowledge, &shutdown.stop)?;
        return Report::read(settings, &knowledge);
    }
    if let Some(header) = progress.header {
        let (epoch, records) = (header.epoch.0, progress.records);
        tracing::info!(epoch, records, "resuming after the last commit");
    }
    link.prepare()?;
    link.settle(&knowledge)?;
    let run = Run {
        settings,
        knowledge,
        link,
        shutdown,
        schema_id,
        threads: Vec::new(),
    };
    run.execute(state, workers, sink, health)
}

/// A run with its threads.
struct Run<'a> {
    settings: &'a Settings,
    knowledge: Arc<KnowledgeBase>,
    link: LinkRole<'a>,
    shutdown: Shutdown,
    /// Id of the schema of predictions in a registry, if they are Avro and there is one.
    schema_id: Option<u32>,
    /// Threads that are joined when the dataflow has ended, in the order in which they were
    /// started.
    threads: Vec<JoinHandle<()>>,
}

/// The learner of a run, the queue of its canaries' verdicts, and what cancels its trainings.
type LearnerParts = (Option<Learner>, Option<LinkOutcomes>, Option<Cancel>);

impl Run<'_> {
    /// Starts the threads around the dataflow, runs the dataflow, and ends the threads.
    fn execute(
        mut self,
        state: &Path,
        workers: usize,
        sink: Option<KafkaSink>,
        health: Health,
    ) -> Result<Report, Error> {
        let settings = self.settings;
        let share = common::policy(settings)?;
        let runtime = Runtime::load()?;
        let trainer = if self.link.trains() {
            Some(open_trainer(settings, state, &runtime)?)
        } else {
            None
        };
        retire_unloadable(settings, &self.knowledge, &runtime)?;
        let restored = self.restore()?;
        let outputs = open_outputs(settings, state, &self.knowledge, &restored, sink)?;
        let is_held = self.waits_for_model(&restored);
        let gate = FirstModelGate {
            opens: Arc::new(AtomicU64::new(if is_held { u64::MAX } else { 0 })),
            after: settings.config().epoch.in_flight + MAX_LEAD,
        };
        let readers = self.start_readers(&restored, workers, &gate, &health)?;
        let watch = Arc::new(CommitWatch::new(health));
        let commit = self.start_committer(outputs, &watch)?;
        let (learner, verdicts, cancel) = self.start_learner(trainer, &watch, &runtime);
        let updates = self.start_subscriber(&watch, &runtime, is_held)?;
        let sender = self.link.send_thread(&self.knowledge, &watch)?;
        let parts = RunParts {
            own: Mutex::new(own_parts(
                workers,
                restored,
                readers,
                learner,
                updates.or(verdicts),
                commit,
            )),
            settings: settings.clone(),
            runtime,
            gate,
            share,
            next: Arc::new((0..workers).map(|_| AtomicU64::new(0)).collect()),
            shutdown: self.shutdown.clone(),
            watch,
            cancel,
            schema_id: self.schema_id,
        };
        tracing::info!("the state is read; the stream begins");
        supervisor::tell_ready();
        let worked = dataflow(parts, workers);
        supervisor::tell_stopping();
        self.end_threads(sender);
        self.link.settle(&self.knowledge)?;
        self.link.warn_waiting(&self.knowledge)?;
        worked?;
        match self.shutdown.take() {
            Some(error) => Err(error),
            None => Report::read(settings, &self.knowledge),
        }
    }

    /// Reads the first state of the dataflow from the knowledge base.
    fn restore(&self) -> Result<Restored, Error> {
        let baselines = &self.settings.config().report.baselines;
        let keep_frozen = baselines.contains(&BaselineConfig::Frozen);
        let with_recents = self.settings.recent_samples() > 0;
        Restored::read(&self.knowledge.view(), keep_frozen, with_recents)
    }

    /// Whether samples are held back until the cloud's first model comes: an edge without a
    /// bootstrap of its own has none to predict with.
    fn waits_for_model(&self, restored: &Restored) -> bool {
        let config = self.settings.config();
        let bootstraps = self.link.trains() && !config.bootstrap.is_none();
        config.role == Role::Edge && !bootstraps && !restored.has_base_model()
    }

    /// Starts the readers; returns the dataflow's ends of them, worker by worker.
    fn start_readers(
        &mut self,
        restored: &Restored,
        workers: usize,
        gate: &FirstModelGate,
        health: &Health,
    ) -> Result<Vec<Channel>, Error> {
        let (stop, opens) = (self.shutdown.stop.clone(), gate.opens.clone());
        let readers = start_readers(self.settings, restored, workers, stop, opens, health)?;
        let (channels, threads): (Vec<_>, Vec<_>) = readers.into_iter().unzip();
        self.threads.extend(threads);
        Ok(channels)
    }

    /// Starts the committer; returns the dataflow's end of it.
    fn start_committer(
        &mut self,
        outputs: Outputs,
        watch: &Arc<CommitWatch>,
    ) -> Result<CommitSender, Error> {
        let shutdown = self.shutdown.clone();
        let (sender, thread) = Committer::start(
            self.knowledge.clone(),
            outputs,
            self.link.outbox(&self.knowledge)?,
            watch.clone(),
            self.settings.config(),
            move |error| shutdown.fail(error, true),
        )?;
        self.threads.push(thread);
        Ok(sender)
    }

    /// Starts the learner and the judge of canaries, if models are trained here.
    fn start_learner(
        &mut self,
        trainer: Option<Trainer>,
        watch: &Arc<CommitWatch>,
        runtime: &Runtime,
    ) -> LearnerParts {
        let Some(trainer) = trainer else {
            return (None, None, None);
        };
        let cancel = trainer.cancel();
        let (knowledge, watch) = (self.knowledge.clone(), watch.clone());
        let context = training_context(self.settings, knowledge, watch, trainer, runtime);
        let context = Arc::new(context);
        let (learner, training) = Learner::start(context.clone());
        self.threads.push(training);
        let verdicts = self.link.canary(&context, &self.shutdown.stop);
        let verdicts = verdicts.map(|(outcomes, judging)| {
            self.threads.push(judging);
            outcomes
        });
        (Some(learner), verdicts, Some(cancel))
    }

    /// Subscribes to what the cloud publishes, at an edge.
    fn start_subscriber(
        &mut self,
        watch: &Arc<CommitWatch>,
        runtime: &Runtime,
        is_held: bool,
    ) -> Result<Option<LinkOutcomes>, Error> {
        let stop = &self.shutdown.stop;
        let subscribed = self.link.subscribe(&self.knowledge, watch, runtime, stop)?;
        let Some((outcomes, thread)) = subscribed else {
            return Ok(None);
        };
        self.threads.push(thread);
        if is_held {
            tracing::warn!("no model yet: waiting for the cloud's first model");
            watch.set_stage(Some("waiting for the cloud's first model".to_string()));
        }
        Ok(Some(outcomes))
    }

    /// Joins the threads, and then lets the link send what they have committed.
    fn end_threads(&mut self, sender: Option<SendThread>) {
        self.shutdown.stop.store(true, Ordering::SeqCst);
        // While a process exits, RocksDB and librdkafka are taken down: no thread may be using them
        // then.
        for thread in self.threads.drain(..) {
            // A panic has ended the process already.
            let _ = thread.join();
        }
        if let Some(sender) = sender {
            sender.finish();
        }
    }
}
