//! The source: binds epochs to what a reader thread read, and owns the dataflow's capabilities.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use timely::dataflow::Scope;
use timely::dataflow::operators::Exchange;
use timely::dataflow::operators::generic::source as timely_source;
use timely::dataflow::operators::probe::Handle;
use timely::dataflow::operators::vec::Map;

use crate::Failure;
use crate::data::Epoch;
use crate::epochs::OnFailure;
use crate::flow::{Effect, Flow, Intake, Slice};

/// What a reader has for one epoch.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SourceEpoch {
    /// The epoch; each reader's epochs follow each other without a gap.
    pub epoch: Epoch,
    /// Shares for workers, those without samples included.
    pub slices: Vec<Slice>,
    /// What was read.
    pub intake: Intake,
    /// What reading it taught: clusters of features that were found, how edges did, models of theirs.
    pub effects: Vec<Effect>,
}

/// What a reader says next.
pub enum Reading {
    /// An epoch.
    Epoch(Box<SourceEpoch>),
    /// Nothing yet.
    NotYet,
    /// The stream has ended; nothing follows ever.
    Ended,
}

/// The receiving end of a reader thread. It never blocks.
pub trait Reader {
    /// What the reader says next.
    fn next(&mut self) -> Result<Reading, Failure>;
}

/// How the source is held back.
#[derive(Clone)]
pub struct Pace {
    /// How far the dataflow is.
    pub probe: Handle<Epoch>,
    /// How many epochs the source may be ahead of it.
    pub epochs_in_flight: u64,
    /// Set when the run is to stop: the source then opens no further epoch.
    pub stop: Arc<AtomicBool>,
    /// For each worker, the epoch that its source opens next; [`u64::MAX`] if it opens none.
    pub next: Arc<Vec<AtomicU64>>,
}

impl Pace {
    fn allows(&self, epoch: Epoch) -> bool {
        let has_room = match epoch.0.checked_sub(self.epochs_in_flight) {
            Some(behind) => !self.probe.less_equal(&Epoch(behind)),
            None => true,
        };
        has_room && !self.stop.load(Ordering::Relaxed)
    }
}

/// How soon the source looks again when it may not or cannot open an epoch. Neither the probe nor
/// the reader's channel activates operators.
const LOOK_AGAIN: Duration = Duration::from_micros(100);

/// Reads epochs from `reader`, beginning at `start`; a worker that reads nothing has no reader.
///
/// The operator alone owns capabilities. When the reader fails, it reports and keeps its capability:
/// a stream that has failed must not look like one that has ended.
pub fn source<'scope, R: Reader + 'static>(
    scope: Scope<'scope, Epoch>,
    reader: Option<R>,
    start: Epoch,
    pace: Pace,
    on_failure: OnFailure,
) -> (Flow<'scope, Slice>, Flow<'scope, Effect>) {
    let (pace_next, index) = (pace.next.clone(), scope.index());
    let epochs = timely_source(scope, "Source", move |capability, info| {
        let activator = scope.activator_for(info.address);
        let next = move |epoch: u64| pace_next[index].store(epoch, Ordering::Release);
        let mut open = reader.map(|reader| (reader, capability.delayed(&start)));
        next(open.as_ref().map_or(u64::MAX, |_| start.0));
        let mut failed = false;
        move |output| {
            let Some((reader, capability)) = &mut open else {
                return;
            };
            if failed {
                return;
            }
            if !pace.allows(*capability.time()) {
                activator.activate_after(LOOK_AGAIN);
                return;
            }
            match reader.next() {
                Ok(Reading::Epoch(epoch)) => {
                    let following = epoch.epoch.next();
                    output.session(&capability).give(*epoch);
                    capability.downgrade(&following);
                    next(following.0);
                    activator.activate();
                }
                Ok(Reading::NotYet) => activator.activate_after(LOOK_AGAIN),
                Ok(Reading::Ended) => {
                    open = None;
                    next(u64::MAX);
                }
                Err(failure) => {
                    failed = true;
                    on_failure(failure);
                }
            }
        }
    });
    let slices = epochs
        .clone()
        .flat_map(|epoch: SourceEpoch| epoch.slices)
        .exchange(|slice: &Slice| slice.worker as u64);
    let read = epochs.flat_map(|epoch| {
        let effects = epoch.effects.into_iter();
        [Effect::Intake(epoch.intake)].into_iter().chain(effects)
    });
    (slices, read)
}
