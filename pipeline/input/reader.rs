//! Reader threads: read epochs ahead of the dataflow, bounded by a channel.
//!
//! A simulated stream has a reader thread on each worker, which makes the samples of that worker.
//! Any other source has one thread in all, which deals the samples of each epoch to all workers. A
//! thread reads an epoch, finds clusters in the first one if the task tree has a level of clusters,
//! and sends the epoch to the source operator. It ends with the stream, with a failure, or when the
//! run is to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};
use perennial_connectors::knowledge_base::Progress;
use perennial_connectors::source::edges::EdgeSource;
use perennial_connectors::source::kafka::{Closed, KafkaSource};
use perennial_connectors::source::{Simulator, Source, SourceError};
use perennial_operators::algorithms::cluster::Clusters;
use perennial_operators::flow::{
    Effect, EpochHeader, Intake, KnowledgeChange, Phase, RefusedMessages, Slice,
};
use perennial_operators::ingest::{Reader, Reading, SourceEpoch};
use perennial_operators::{ClusterPlan, Epoch, Failure};

use super::epoch_plan::EpochPlan;
use super::live_clock::LiveClock;
use super::portion::{Limits, Portion};
use super::replay_clock;
use crate::config::Mode;
use crate::fault;

/// Epochs that a reader keeps ready for the dataflow.
const READ_AHEAD: usize = 2;

/// Limit on how many epochs a reader is ahead of the last one that the dataflow has taken.
pub const MAX_LEAD: u64 = READ_AHEAD as u64 + 2;

/// Limit on the records of the epoch in which clusters are found, the first of the bootstrap. It is
/// one epoch, so that the clusters are committed together with the first samples allocated by them.
const CLUSTERING_RECORDS: u64 = 50_000;

/// Source of samples.
pub enum SourceKind {
    /// A file.
    File(Box<dyn Source>),
    /// Kafka topics of samples and labels.
    Topics(Box<KafkaSource>),
    /// The topic in which edges share their changes.
    Edges(Box<EdgeSource>),
    /// A simulated stream, and its number of samples.
    Simulated(Simulator, u64),
}

type Message = Result<SourceEpoch, Failure>;

/// A reader thread, and the dataflow's end of it. The thread ends when the channel is dropped and
/// the run is to stop.
pub type RunningReader = (Channel, JoinHandle<()>);

/// The dataflow's end of a reader thread.
pub struct Channel {
    receiver: Receiver<Message>,
    stop: Arc<AtomicBool>,
}

impl Reader for Channel {
    fn next(&mut self) -> Result<Reading, Failure> {
        match self.receiver.try_recv() {
            Ok(epoch) => Ok(Reading::Epoch(Box::new(epoch?))),
            Err(TryRecvError::Empty) => Ok(Reading::NotYet),
            // A reader that was stopped has not reached the end of its stream.
            Err(TryRecvError::Disconnected) if self.stop.load(Ordering::Relaxed) => {
                Ok(Reading::NotYet)
            }
            Err(TryRecvError::Disconnected) => Ok(Reading::Ended),
        }
    }
}

/// Starts the reader thread of a worker. It resumes after the committed epochs, with the clusters
/// that were found in them, if any.
pub fn start(
    source: SourceKind,
    plan: EpochPlan,
    committed: &Progress,
    clusters: Option<Arc<Clusters>>,
) -> Result<RunningReader, SourceError> {
    let (sender, receiver) = bounded(READ_AHEAD);
    let stop = plan.stop.clone();
    let mut reader = ReaderThread::new(source, plan, committed, clusters)?;
    let thread = std::thread::spawn(move || reader.run(&sender));
    Ok((Channel { receiver, stop }, thread))
}

/// State of a reader thread.
struct ReaderThread {
    source: SourceKind,
    plan: EpochPlan,
    /// The next epoch.
    epoch: Epoch,
    /// Records read so far, over all workers.
    position: u64,
    /// Good samples among them.
    samples: u64,
    /// The stream's clock, microseconds.
    clock: i64,
    /// The machine's clock, which the stream's follows in live mode.
    live_clock: LiveClock,
    /// Whether a time that the clock did not follow was logged.
    has_warned: bool,
    /// Phase of the previous epoch.
    previous: Option<Phase>,
    /// Failure of a file after some records of an epoch: the epoch goes first.
    failed: Option<SourceError>,
    /// Clusters that samples are allocated to, once they are found.
    clusters: Option<Arc<Clusters>>,
    /// Time and position at which reading began, to keep to the rate.
    began: (Instant, u64),
}

impl ReaderThread {
    fn new(
        mut source: SourceKind,
        plan: EpochPlan,
        committed: &Progress,
        clusters: Option<Arc<Clusters>>,
    ) -> Result<Self, SourceError> {
        if let SourceKind::File(file) = &mut source {
            file.skip_to(committed.records)?;
        }
        let header = committed.header;
        Ok(ReaderThread {
            source,
            epoch: committed.next_epoch(),
            position: committed.records,
            samples: committed.samples,
            clock: header.map_or(i64::MIN, |header| header.clock),
            live_clock: LiveClock::new(header.map(|header| header.clock)),
            has_warned: false,
            previous: header.map(|header| header.phase),
            failed: None,
            clusters,
            began: (Instant::now(), committed.records),
            plan,
        })
    }

    /// Sends epochs up to the last one, or up to a failure, which is then the last message.
    fn run(&mut self, sender: &Sender<Message>) {
        while let Some(message) = self.next().transpose() {
            let is_last = message.as_ref().map_or(true, |epoch| epoch.intake.ended);
            if sender.send(message).is_err() || is_last {
                return;
            }
        }
    }

    /// Reads the next epoch. There is none if the run is to stop, or if a topic has been read to
    /// where this run ends, which is not the end of its stream.
    fn next(&mut self) -> Result<Option<SourceEpoch>, Failure> {
        let bootstrapping = matches!(self.previous, None | Some(Phase::Bootstrap));
        let wanted = self.wanted();
        self.keep_to_rate(wanted);
        let mut portion = self.read(wanted)?;
        let bootstrap_ends = self.position >= self.plan.bootstrap || portion.nothing_left;
        if bootstrapping
            && bootstrap_ends
            && let SourceKind::Topics(topics) = &mut self.source
        {
            portion.dead_letters.extend(topics.complete_labels()?);
        }
        if self.plan.stop.load(Ordering::Relaxed) {
            // The portion may be less than a whole epoch.
            return Ok(None);
        }
        let is_topic = matches!(self.source, SourceKind::Topics(_) | SourceKind::Edges(_));
        if portion.nothing_left && is_topic {
            return Ok(None);
        }
        let found = self.find_clusters(&portion)?;
        let phase = match (bootstrapping, bootstrap_ends) {
            (true, false) => Phase::Bootstrap,
            (true, true) => Phase::BootstrapEnds,
            (false, _) if portion.nothing_left => Phase::Ended,
            (false, _) => Phase::Live,
        };
        self.previous = Some(phase);
        if self.plan.mode == Mode::Live {
            self.clock = self.live_clock.read();
        }
        let mut epoch = self.bind(portion, phase);
        // All readers find the same clusters, and the first one reports them.
        if let Some(clusters) = found.filter(|_| self.plan.worker == 0) {
            let change = KnowledgeChange::ClustersFound(clusters);
            epoch.effects.push(Effect::Change(change));
        }
        Ok(Some(epoch))
    }

    /// Number of records of the next epoch. While there is no model to predict with, it is 0, and a
    /// tick passes first.
    fn wanted(&self) -> u64 {
        match self.previous {
            None | Some(Phase::Bootstrap) => {
                let left = self.plan.bootstrap.saturating_sub(self.position);
                let most = match self.clusters_to_find() {
                    Some(_) => CLUSTERING_RECORDS,
                    None => self.plan.records,
                };
                most.min(left)
            }
            // The initial training has an epoch of its own, so that its models predict in the next.
            Some(Phase::BootstrapEnds) => 0,
            Some(Phase::Live | Phase::Ended) if self.is_held() => {
                std::thread::sleep(self.plan.tick);
                0
            }
            Some(Phase::Live | Phase::Ended) => self.plan.live_records(),
        }
    }

    /// Whether the next epoch comes before the first model.
    fn is_held(&self) -> bool {
        self.epoch.0 < self.plan.opens.load(Ordering::SeqCst)
    }

    /// The clusters to find, if they are not found yet.
    fn clusters_to_find(&self) -> Option<&ClusterPlan> {
        let clustering = self.plan.clustering.as_ref();
        clustering.filter(|_| self.clusters.is_none())
    }

    /// Finds clusters in a portion, if they are not found yet.
    fn find_clusters(&mut self, portion: &Portion) -> Result<Option<Arc<Clusters>>, Failure> {
        if self.clusters_to_find().is_none() {
            return Ok(None);
        }
        // Clusters of a part of the records would be other clusters.
        if let Some(error) = self.failed.take() {
            return Err(error.into());
        }
        // A simulated portion has the samples of one worker. Clusters are made of those of all.
        let whole = match &mut self.source {
            SourceKind::Simulated(simulator, _) => vec![(0, simulator.fill(0..portion.position))],
            SourceKind::File(_) | SourceKind::Topics(_) | SourceKind::Edges(_) => Vec::new(),
        };
        let batches = if whole.is_empty() {
            &portion.batches
        } else {
            &whole
        };
        let features: Vec<_> = batches
            .iter()
            .map(|(_, batch)| batch.features.view())
            .collect();
        let found = self
            .clusters_to_find()
            .map(|plan| Clusters::find(plan, &features));
        self.clusters = found.transpose()?.map(Arc::new);
        fault::point("clusters: found");
        Ok(self.clusters.clone())
    }

    /// Binds a portion to the next epoch.
    fn bind(&mut self, mut portion: Portion, phase: Phase) -> SourceEpoch {
        let header = EpochHeader {
            epoch: self.epoch,
            end: self.samples,
            clock: self.clock,
            phase,
        };
        self.epoch = self.epoch.next();
        let (mut edges, mut histories, mut effects) = Default::default();
        let mut refused = RefusedMessages::default();
        let closed = match &mut self.source {
            SourceKind::Topics(topics) => topics.close_epoch(&header),
            SourceKind::Edges(source) => {
                let closed = source.close_epoch();
                (edges, histories, effects) = (closed.edges, closed.histories, closed.effects);
                refused = closed.refused;
                Closed {
                    offsets: closed.offsets,
                    topics: closed.topics,
                    skipped: closed.skipped,
                    seen: closed.seen,
                    ..Closed::default()
                }
            }
            SourceKind::File(_) | SourceKind::Simulated(..) => Closed::default(),
        };
        let skipped = closed.skipped.into_iter();
        effects.extend(skipped.map(|skipped| KnowledgeChange::RecordsSkipped(skipped).into()));
        portion.dead_letters.extend(closed.settled.dead_letters);
        let labels = Arc::new(closed.settled.labels);
        let is_bootstrap = matches!(phase, Phase::Bootstrap | Phase::BootstrapEnds);
        let batches = portion.batches.iter();
        let samples: u64 = batches.map(|(_, batch)| batch.len() as u64).sum();
        SourceEpoch {
            epoch: header.epoch,
            intake: Intake {
                header,
                records: portion.records,
                samples,
                bootstrapped: if is_bootstrap { samples } else { 0 },
                ended: phase == Phase::Ended,
                dead_letters: portion.dead_letters,
                offsets: closed.offsets,
                topics: closed.topics,
                refused,
                early_labels: closed.settled.early,
                settled_labels: closed.settled.settled,
                seen: closed.seen,
                edges,
                histories,
            },
            slices: portion
                .batches
                .into_iter()
                .map(|(worker, batch)| Slice {
                    worker,
                    header,
                    batch,
                    labels: labels.clone(),
                    clusters: self.clusters.clone(),
                })
                .collect(),
            effects,
        }
    }

    /// Waits until `wanted` more records are due at the plan's rate, or the run is to stop.
    fn keep_to_rate(&self, wanted: u64) {
        let Some(rate) = self.plan.rate else { return };
        let (began, position) = self.began;
        let due = (self.position + wanted - position) as f64 / rate;
        while let Some(wait) = Duration::from_secs_f64(due).checked_sub(began.elapsed()) {
            if self.plan.stop.load(Ordering::Relaxed) {
                return;
            }
            std::thread::sleep(wait.min(Duration::from_millis(50)));
        }
    }

    /// Reads this reader's portion of an epoch of `wanted` records.
    fn read(&mut self, wanted: u64) -> Result<Portion, Failure> {
        let finding = self.clusters_to_find().is_some();
        let mut portion = Portion::new(self.position);
        match &mut self.source {
            SourceKind::File(file) => {
                if let Some(error) = self.failed.take() {
                    return Err(error.into());
                }
                let workers = self.plan.workers as u64;
                if let Err(error) = portion.fill(wanted, workers, |records| file.read(records)) {
                    if portion.records == 0 {
                        return Err(error.into());
                    }
                    self.failed = Some(error);
                }
            }
            SourceKind::Topics(topics) => {
                let limits = Limits::new(&self.plan, finding);
                portion.fill_within(wanted, &limits, |limit| topics.read(limit))?;
            }
            SourceKind::Edges(edges) => {
                let limits = Limits::new(&self.plan, finding);
                portion.fill_within(wanted, &limits, |limit| edges.read(limit))?;
            }
            SourceKind::Simulated(simulator, limit) => {
                let begin = self.position;
                let end = begin.saturating_add(wanted).min(*limit);
                let (worker, workers) = (self.plan.worker as u64, self.plan.workers as u64);
                let bound = |worker: u64| begin + (end - begin) * worker / workers;
                let batch = simulator.fill(bound(worker)..bound(worker + 1));
                // All readers must have the same clock, so each looks at the epoch's last sample.
                if end > begin {
                    let last = simulator.fill(end - 1..end);
                    let time = last.times.first().copied();
                    self.clock = self.clock.max(time.unwrap_or(i64::MIN));
                }
                (self.position, self.samples) = (end, end);
                return Ok(Portion {
                    records: batch.len() as u64,
                    position: end,
                    batches: vec![(self.plan.worker, batch)],
                    dead_letters: Vec::new(),
                    nothing_left: wanted > 0 && begin == end,
                });
            }
        }
        self.count(&portion);
        Ok(portion)
    }

    /// Counts a portion that is all that is read of its epoch.
    fn count(&mut self, portion: &Portion) {
        self.position = portion.position;
        let batches = portion.batches.iter();
        self.samples += batches.map(|(_, batch)| batch.len() as u64).sum::<u64>();
        if self.plan.mode == Mode::Replay {
            self.move_clock(portion);
        }
    }

    /// Moves the clock to the latest time of a portion.
    fn move_clock(&mut self, portion: &Portion) {
        let batches = portion.batches.iter();
        let times: Vec<i64> = batches
            .flat_map(|(_, batch)| batch.times.iter().copied())
            .collect();
        let (clock, refused) = replay_clock::advance(self.clock, &times);
        self.clock = clock;
        if let Some(time) = refused.filter(|_| !self.has_warned) {
            self.has_warned = true;
            tracing::warn!(
                time = replay_clock::written(time),
                clock = replay_clock::written(clock),
                "a sample's time is far ahead of the others: the stream's clock does not follow it, \
                 here and where this happens again"
            );
        }
    }
}
