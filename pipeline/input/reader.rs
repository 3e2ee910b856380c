//! Reader threads: read epochs ahead of the dataflow, bounded by a channel.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};
use perennial_connectors::knowledge_base::Progress;
use perennial_connectors::source::edges::EdgeSource;
use perennial_connectors::source::kafka::{Closed, KafkaSource, Limit};
use perennial_connectors::source::{Read, Simulator, Source, SourceError};
use perennial_operators::algorithms::cluster::Clusters;
use perennial_operators::flow::{Effect, EpochHeader, Intake, KnowledgeChange, Phase, Slice};
use perennial_operators::ingest::{Reader, Reading, SourceEpoch};
use perennial_operators::{Batch, ClusterPlan, Epoch, Failure};

use crate::config::Mode;
use crate::fault;

/// Epochs that a reader may hold ready beyond what the dataflow has taken.
const READ_AHEAD: usize = 2;
/// How many epochs a reader may be beyond the last that the dataflow has taken.
pub const LEAD: u64 = READ_AHEAD as u64 + 2;

/// Clusters of features are found among the bootstrap's first records, so many at most. They are read as one epoch, so
/// that the clusters are committed with the first samples that they hold for, or neither is.
const FOUND_AMONG: u64 = 50_000;

/// From topics, an epoch in which clusters are found holds at most so many bytes of records.
const FOUND_AMONG_BYTES: usize = 256 << 20;

/// Longer than anybody waits for records that are there.
const LONG: Duration = Duration::from_secs(24 * 60 * 60);

/// Where samples come from, for one worker.
pub enum Origin {
    /// One reader for all workers: it shares its samples out.
    Shared(Box<dyn Source>),
    /// The same, of topics.
    Topics(Box<KafkaSource>),
    /// The same, of what edges share.
    Edges(Box<EdgeSource>),
    /// A reader on each worker, which makes the worker's own share of a stream of so many samples.
    Simulated(Simulator, u64),
}

/// How a stream is cut into epochs.
#[derive(Clone)]
pub struct Cut {
    /// Records in an epoch.
    pub records: u64,
    /// Records of the bootstrap.
    pub bootstrap: u64,
    /// Replay or live: whose clock counts.
    pub mode: Mode,
    /// Records a second at most.
    pub rate: Option<f64>,
    /// What clusters are to be made of, if a level of the task tree is.
    pub clustering: Option<ClusterPlan>,
    /// In live mode, how long an epoch is.
    pub tick: Duration,
    /// From topics, how many bytes of records it holds at most.
    pub bytes: usize,
    /// Which worker this is.
    pub worker: usize,
    /// Of how many.
    pub workers: usize,
    /// Set when the run is to stop.
    pub stop: Arc<AtomicBool>,
    /// The first epoch with samples that are predicted: before it, nothing may be able to answer.
    pub opens: Arc<AtomicU64>,
}

impl Cut {
    /// Records in a scored epoch: in live mode no more than come in a tick.
    fn live_records(&self) -> u64 {
        match (self.mode, self.rate) {
            (Mode::Live, Some(rate)) => {
                let in_a_tick = (rate * self.tick.as_secs_f64()).round() as u64;
                in_a_tick.clamp(1, self.records)
            }
            _ => self.records,
        }
    }
}

type Message = Result<SourceEpoch, Failure>;

/// A reader thread, and the dataflow's end of it. The thread ends when that is dropped and the run is to stop.
pub type Running = (Channel, JoinHandle<()>);

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
    origin: Origin,
    cut: Cut,
    committed: &Progress,
    clusters: Option<Arc<Clusters>>,
) -> Result<Running, SourceError> {
    let (sender, receiver) = bounded(READ_AHEAD);
    let stop = cut.stop.clone();
    let mut driver = Driver::new(origin, cut, committed, clusters)?;
    let thread = std::thread::spawn(move || driver.run(&sender));
    Ok((Channel { receiver, stop }, thread))
}

struct Driver {
    origin: Origin,
    cut: Cut,
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

impl Driver {
    fn new(
        mut origin: Origin,
        cut: Cut,
        committed: &Progress,
        clusters: Option<Arc<Clusters>>,
    ) -> Result<Self, SourceError> {
        if let Origin::Shared(source) = &mut origin {
            source.skip_to(committed.records)?;
        }
        let header = committed.header;
        Ok(Driver {
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
            Some(Phase::Scored | Phase::Ended) if self.is_held() => {
                std::thread::sleep(self.cut.tick);
                0
            }
            Some(Phase::Scored | Phase::Ended) => self.cut.live_records(),
        };
        self.keep_to_rate(wanted);
        let mut share = self.read(wanted)?;
        let bootstrap_ends = self.position >= self.cut.bootstrap || share.nothing_left;
        if let (true, true, Origin::Topics(source)) =
            (bootstrapping, bootstrap_ends, &mut self.origin)
        {
            share.dead_letters.extend(source.complete_labels()?);
        }
        if self.cut.stop.load(Ordering::Relaxed) {
            // It may be less than a whole epoch.
            return Ok(None);
        }
        if share.nothing_left && matches!(self.origin, Origin::Topics(_) | Origin::Edges(_)) {
            return Ok(None);
        }
        let found = self.find_clusters(&share)?;
        let phase = match (bootstrapping, bootstrap_ends) {
            (true, false) => Phase::Bootstrap,
            (true, true) => Phase::BootstrapEnds,
            (false, _) if share.nothing_left => Phase::Ended,
            (false, _) => Phase::Scored,
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
    fn find_clusters(&mut self, share: &Share) -> Result<Option<Arc<Clusters>>, Failure> {
        if self.plan().is_none() {
            return Ok(None);
        }
        // Of a part of the records other clusters would be made.
        if let Some(error) = self.failed.take() {
            return Err(error.into());
        }
        // Each reader of the simulator makes the samples of its own worker, and needs those of all.
        let whole = match &mut self.origin {
            Origin::Simulated(simulator, _) => vec![(0, simulator.fill(0..share.position))],
            Origin::Shared(_) | Origin::Topics(_) | Origin::Edges(_) => Vec::new(),
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
    fn bind(&mut self, mut share: Share, phase: Phase) -> SourceEpoch {
        let header = EpochHeader {
            epoch: self.epoch,
            end: self.samples,
            clock: self.clock,
            phase,
        };
        self.epoch = self.epoch.next();
        let (mut edges, mut effects) = Default::default();
        let closed = match &mut self.origin {
            Origin::Topics(source) => source.close_epoch(&header),
            Origin::Edges(source) => {
                let closed = source.close_epoch();
                (edges, effects) = (closed.edges, closed.effects);
                Closed {
                    offsets: closed.offsets,
                    ..Closed::default()
                }
            }
            Origin::Shared(_) | Origin::Simulated(..) => Closed::default(),
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
    fn read(&mut self, wanted: u64) -> Result<Share, Failure> {
        let finding = self.plan().is_some();
        match &mut self.origin {
            Origin::Shared(source) => {
                if let Some(error) = self.failed.take() {
                    return Err(error.into());
                }
                let mut share = Share::new(self.position);
                let workers = self.cut.workers as u64;
                if let Err(error) = share.fill(wanted, workers, |part| source.read(part)) {
                    if share.records == 0 {
                        return Err(error.into());
                    }
                    self.failed = Some(error);
                }
                Ok(self.count(share))
            }
            Origin::Topics(source) => {
                let mut share = Share::new(self.position);
                let limits = Limits::new(&self.cut, finding);
                share.fill_within(wanted, &limits, |limit| source.read(limit))?;
                Ok(self.count(share))
            }
            Origin::Edges(source) => {
                let mut share = Share::new(self.position);
                let limits = Limits::new(&self.cut, finding);
                share.fill_within(wanted, &limits, |limit| source.read(limit))?;
                Ok(self.count(share))
            }
            Origin::Simulated(simulator, limit) => {
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
                Ok(Share {
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

impl Driver {
    /// Counts a share of a stream that one reader reads alone.
    fn count(&mut self, share: Share) -> Share {
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

/// How much of topics is read for an epoch.
struct Limits {
    began: Instant,
    tick: Duration,
    bytes: usize,
    workers: usize,
}

impl Limits {
    fn new(cut: &Cut, finding: bool) -> Limits {
        Limits {
            began: Instant::now(),
            // A replay is cut by counts alone, and ends with its topics.
            tick: match cut.mode {
                Mode::Live if !finding => cut.tick,
                _ => LONG,
            },
            bytes: if finding {
                FOUND_AMONG_BYTES
            } else {
                cut.bytes
            },
            workers: cut.workers,
        }
    }

    /// Each worker gets what comes in its part of the tick; this is the how many-th.
    fn of(&self, records: usize, part: u32) -> Limit {
        Limit {
            records,
            bytes: self.bytes.div_ceil(self.workers),
            until: self.began + self.tick * part / self.workers as u32,
        }
    }
}

/// What one reader has of an epoch.
struct Share {
    batches: Vec<(usize, Batch)>,
    dead_letters: Vec<perennial_operators::flow::DeadLetter>,
    records: u64,
    /// Records of the stream up to its end.
    position: u64,
    /// Whether the stream gave nothing because it has ended.
    nothing_left: bool,
}

impl Share {
    fn new(position: u64) -> Self {
        Share {
            batches: Vec::new(),
            dead_letters: Vec::new(),
            records: 0,
            position,
            nothing_left: false,
        }
    }

    /// The same from topics, where each worker gets what comes in its part of the tick.
    fn fill_within<E>(
        &mut self,
        wanted: u64,
        limits: &Limits,
        mut read: impl FnMut(Limit) -> Result<Read, E>,
    ) -> Result<(), E> {
        let mut parts = 0;
        self.fill(wanted, limits.workers as u64, |records| {
            parts += 1;
            read(limits.of(records, parts))
        })
    }

    /// Reads an epoch's records in as many parts as there are workers; an empty part for each where
    /// nothing is wanted.
    fn fill<E>(
        &mut self,
        wanted: u64,
        workers: u64,
        mut read: impl FnMut(usize) -> Result<Read, E>,
    ) -> Result<(), E> {
        let mut ended = false;
        for worker in 0..workers {
            let part = wanted * (worker + 1) / workers - wanted * worker / workers;
            let Read {
                batch,
                dead_letters,
                position,
                ended: nothing_follows,
            } = read(part as usize)?;
            ended |= nothing_follows;
            // Not every dead letter is a record of the stream: labels have some of their own.
            self.records += position - self.position;
            self.position = position;
            self.dead_letters.extend(dead_letters);
            self.batches.push((worker as usize, batch));
        }
        self.nothing_left = wanted > 0 && self.records == 0 && ended;
        Ok(())
    }
}
