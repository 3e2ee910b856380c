//! Reader threads: read epochs ahead of the dataflow, bounded by a channel.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};
use perennial_connectors::knowledge_base::Progress;
use perennial_connectors::source::edges::EdgeSource;
use perennial_connectors::source::kafka::{Closed, KafkaSource};
use perennial_connectors::source::{Simulator, Source, SourceError};
use perennial_operators::algorithms::cluster::Clusters;
use perennial_operators::flow::{Effect, EpochHeader, Intake, KnowledgeChange, Phase, Slice};
use perennial_operators::ingest::{Reader, Reading, SourceEpoch};
use perennial_operators::{ClusterPlan, Epoch, Failure};

use super::plan::EpochPlan;
use super::portion::{Limits, Portion};
use crate::config::Mode;
use crate::fault;

/// Epochs that a reader may hold ready beyond what the dataflow has taken.
const READ_AHEAD: usize = 2;
/// How many epochs a reader may be beyond the last that the dataflow has taken.
pub const MAX_LEAD: u64 = READ_AHEAD as u64 + 2;

/// Clusters of features are found among the bootstrap's first records, so many at most. They are read as one epoch, so
/// that the clusters are committed with the first samples that they hold for, or neither is.
const FOUND_AMONG: u64 = 50_000;

/// From topics, an epoch in which clusters are found holds at most so many bytes of records.
pub(crate) const FOUND_AMONG_BYTES: usize = 256 << 20;

/// Longer than anybody waits for records that are there.
pub(crate) const LONG: Duration = Duration::from_secs(24 * 60 * 60);

/// Where samples come from, for one worker.
pub enum SourceKind {
    /// One reader for all workers: it shares its samples out.
    Shared(Box<dyn Source>),
    /// The same, of topics.
    Topics(Box<KafkaSource>),
    /// The same, of what edges share.
    Edges(Box<EdgeSource>),
    /// A reader on each worker, which makes the worker's own share of a stream of so many samples.
    Simulated(Simulator, u64),
}

type Message = Result<SourceEpoch, Failure>;

/// A reader thread, and the dataflow's end of it. The thread ends when that is dropped and the run is to stop.
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
            // A reader that was stopped is not at the end of its stream, though others may be.
            Err(TryRecvError::Disconnected) if self.stop.load(Ordering::Relaxed) => {
                Ok(Reading::NotYet)
            }
            Err(TryRecvError::Disconnected) => Ok(Reading::Ended),
        }
    }
}

/// Starts the reader thread of a worker, going on from what is committed, with clusters if they were found.
pub fn start(
    origin: SourceKind,
    cut: EpochPlan,
    committed: &Progress,
    clusters: Option<Arc<Clusters>>,
) -> Result<RunningReader, SourceError> {
    let (sender, receiver) = bounded(READ_AHEAD);
    let stop = cut.stop.clone();
    let mut driver = ReaderThread::new(origin, cut, committed, clusters)?;
    let thread = std::thread::spawn(move || driver.run(&sender));
    Ok((Channel { receiver, stop }, thread))
}

struct ReaderThread {
    origin: SourceKind,
    cut: EpochPlan,
    epoch: Epoch,
    /// Records read so far, over all workers.
    position: u64,
    /// Good samples among them.
    samples: u64,
    clock: i64,
    /// The phase of the epoch before.
    before: Option<Phase>,
    /// A failure that came after some records of its epoch: they go first.
    failed: Option<SourceError>,
    /// The clusters that samples are allocated to, once they are found.
    clusters: Option<Arc<Clusters>>,
    /// When reading began and where, to keep to the rate.
    began: (Instant, u64),
}

impl ReaderThread {
    fn new(
        mut origin: SourceKind,
        cut: EpochPlan,
        committed: &Progress,
        clusters: Option<Arc<Clusters>>,
    ) -> Result<Self, SourceError> {
        if let SourceKind::Shared(source) = &mut origin {
            source.skip_to(committed.records)?;
        }
        let header = committed.header;
        Ok(ReaderThread {
            origin,
            epoch: committed.next_epoch(),
            position: committed.records,
            samples: committed.samples,
            clock: header.map_or(i64::MIN, |header| header.clock),
            before: header.map(|header| header.phase),
            failed: None,
            clusters,
            began: (Instant::now(), committed.records),
            cut,
        })
    }

    /// Reads to the end, or to a failure, which is the last thing that is sent.
    fn run(&mut self, sender: &Sender<Message>) {
        while let Some(message) = self.next().transpose() {
            let is_last = message.as_ref().map_or(true, |epoch| epoch.intake.ended);
            if sender.send(message).is_err() || is_last {
                return;
            }
        }
    }

    /// The next epoch; none if the run is to stop, or a topic was to be read to where it ended, which is not
    /// the end of the stream.
    fn next(&mut self) -> Result<Option<SourceEpoch>, Failure> {
        let bootstrapping = matches!(self.before, None | Some(Phase::Bootstrap));
        let wanted = match self.before {
            None | Some(Phase::Bootstrap) => {
                let left = self.cut.bootstrap.saturating_sub(self.position);
                let most = match self.plan() {
                    Some(_) => FOUND_AMONG,
                    None => self.cut.records,
                };
                most.min(left)
            }
            // The initial training has an epoch of its own, so that its models answer in the next.
            Some(Phase::BootstrapEnds) => 0,
            Some(Phase::Live | Phase::Ended) if self.is_held() => {
                std::thread::sleep(self.cut.tick);
                0
            }
            Some(Phase::Live | Phase::Ended) => self.cut.live_records(),
        };
        self.keep_to_rate(wanted);
        let mut share = self.read(wanted)?;
        let bootstrap_ends = self.position >= self.cut.bootstrap || share.nothing_left;
        if let (true, true, SourceKind::Topics(source)) =
            (bootstrapping, bootstrap_ends, &mut self.origin)
        {
            share.dead_letters.extend(source.complete_labels()?);
        }
        if self.cut.stop.load(Ordering::Relaxed) {
            // It may be less than a whole epoch.
            return Ok(None);
        }
        if share.nothing_left && matches!(self.origin, SourceKind::Topics(_) | SourceKind::Edges(_))
        {
            return Ok(None);
        }
        let found = self.find_clusters(&share)?;
        let phase = match (bootstrapping, bootstrap_ends) {
            (true, false) => Phase::Bootstrap,
            (true, true) => Phase::BootstrapEnds,
            (false, _) if share.nothing_left => Phase::Ended,
            (false, _) => Phase::Live,
        };
        self.before = Some(phase);
        if self.cut.mode == Mode::Live {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            self.clock = now.map_or(self.clock, |since| since.as_micros() as i64);
        }
        let mut epoch = self.bind(share, phase);
        // All readers find the same, and one says so.
        let found = found.filter(|_| self.cut.worker == 0);
        let found = found.map(KnowledgeChange::ClustersFound);
        epoch.effects.extend(found.map(Effect::Change));
        Ok(Some(epoch))
    }

    /// Whether there is nothing yet that answers.
    fn is_held(&self) -> bool {
        self.epoch.0 < self.cut.opens.load(Ordering::SeqCst)
    }

    /// What clusters are to be made of, if they are still to be found.
    fn plan(&self) -> Option<&ClusterPlan> {
        let plan = self.cut.clustering.as_ref();
        plan.filter(|_| self.clusters.is_none())
    }

    /// Finds clusters in what was read, if they are still to be found.
    fn find_clusters(&mut self, share: &Portion) -> Result<Option<Arc<Clusters>>, Failure> {
        if self.plan().is_none() {
            return Ok(None);
        }
        // Of a part of the records other clusters would be made.
        if let Some(error) = self.failed.take() {
            return Err(error.into());
        }
        // Each reader of the simulator makes the samples of its own worker, and needs those of all.
        let whole = match &mut self.origin {
            SourceKind::Simulated(simulator, _) => vec![(0, simulator.fill(0..share.position))],
            SourceKind::Shared(_) | SourceKind::Topics(_) | SourceKind::Edges(_) => Vec::new(),
        };
        let batches = if whole.is_empty() {
            &share.batches
        } else {
            &whole
        };
        let features: Vec<_> = batches
            .iter()
            .map(|(_, batch)| batch.features.view())
            .collect();
        let found = self.plan().map(|plan| Clusters::find(plan, &features));
        self.clusters = found.transpose()?.map(Arc::new);
        fault::point("clusters: found");
        Ok(self.clusters.clone())
    }

    /// Binds what was read to the next epoch.
    fn bind(&mut self, mut share: Portion, phase: Phase) -> SourceEpoch {
        let header = EpochHeader {
            epoch: self.epoch,
            end: self.samples,
            clock: self.clock,
            phase,
        };
        self.epoch = self.epoch.next();
        let (mut edges, mut effects) = Default::default();
        let closed = match &mut self.origin {
            SourceKind::Topics(source) => source.close_epoch(&header),
            SourceKind::Edges(source) => {
                let closed = source.close_epoch();
                (edges, effects) = (closed.edges, closed.effects);
                Closed {
                    offsets: closed.offsets,
                    ..Closed::default()
                }
            }
            SourceKind::Shared(_) | SourceKind::Simulated(..) => Closed::default(),
        };
        share.dead_letters.extend(closed.settled.dead_letters);
        let labels = Arc::new(closed.settled.labels);
        let is_bootstrap = matches!(phase, Phase::Bootstrap | Phase::BootstrapEnds);
        let samples: u64 = share
            .batches
            .iter()
            .map(|(_, batch)| batch.len() as u64)
            .sum();
        SourceEpoch {
            epoch: header.epoch,
            intake: Intake {
                header,
                records: share.records,
                samples,
                bootstrapped: if is_bootstrap { samples } else { 0 },
                ended: phase == Phase::Ended,
                dead_letters: share.dead_letters,
                offsets: closed.offsets,
                early_labels: closed.settled.early,
                settled_labels: closed.settled.settled,
                edges,
            },
            slices: share
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

    fn keep_to_rate(&self, wanted: u64) {
        let Some(rate) = self.cut.rate else { return };
        let ahead = (self.position + wanted - self.began.1) as f64 / rate;
        while let Some(wait) = Duration::from_secs_f64(ahead).checked_sub(self.began.0.elapsed()) {
            if self.cut.stop.load(Ordering::Relaxed) {
                return;
            }
            std::thread::sleep(wait.min(Duration::from_millis(50)));
        }
    }

    /// Reads this reader's share of an epoch.
    fn read(&mut self, wanted: u64) -> Result<Portion, Failure> {
        let finding = self.plan().is_some();
        match &mut self.origin {
            SourceKind::Shared(source) => {
                if let Some(error) = self.failed.take() {
                    return Err(error.into());
                }
                let mut share = Portion::new(self.position);
                let workers = self.cut.workers as u64;
                if let Err(error) = share.fill(wanted, workers, |part| source.read(part)) {
                    if share.records == 0 {
                        return Err(error.into());
                    }
                    self.failed = Some(error);
                }
                Ok(self.count(share))
            }
            SourceKind::Topics(source) => {
                let mut share = Portion::new(self.position);
                let limits = Limits::new(&self.cut, finding);
                share.fill_within(wanted, &limits, |limit| source.read(limit))?;
                Ok(self.count(share))
            }
            SourceKind::Edges(source) => {
                let mut share = Portion::new(self.position);
                let limits = Limits::new(&self.cut, finding);
                share.fill_within(wanted, &limits, |limit| source.read(limit))?;
                Ok(self.count(share))
            }
            SourceKind::Simulated(simulator, limit) => {
                let begin = self.position;
                let end = begin.saturating_add(wanted).min(*limit);
                let part = |number: u64| begin + (end - begin) * number / self.cut.workers as u64;
                let worker = self.cut.worker as u64;
                let batch = simulator.fill(part(worker)..part(worker + 1));
                self.position = end;
                self.samples = end;
                // All readers must tell the same time, so each looks at the epoch's last sample.
                if end > begin {
                    let last = simulator.fill(end - 1..end);
                    self.clock = self
                        .clock
                        .max(last.times.first().copied().unwrap_or(i64::MIN));
                }
                Ok(Portion {
                    records: batch.len() as u64,
                    position: end,
                    batches: vec![(self.cut.worker, batch)],
                    dead_letters: Vec::new(),
                    nothing_left: wanted > 0 && begin == end,
                })
            }
        }
    }
}

impl ReaderThread {
    /// Counts a share of a stream that one reader reads alone.
    fn count(&mut self, share: Portion) -> Portion {
        self.position = share.position;
        for (_, batch) in &share.batches {
            self.samples += batch.len() as u64;
            if self.cut.mode == Mode::Replay {
                let latest = batch.times.iter().copied().max();
                self.clock = self.clock.max(latest.unwrap_or(i64::MIN));
            }
        }
        share
    }
}
