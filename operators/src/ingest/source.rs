//! The source: binds epochs to what a reader thread has read, and owns the dataflow's capabilities.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use timely::dataflow::Scope;
use timely::dataflow::operators::Exchange;
use timely::dataflow::operators::generic::source as timely_source;
use timely::dataflow::operators::probe::Handle;
use timely::dataflow::operators::vec::Map;

use crate::data::Epoch;
use crate::epochs::OnFailure;
use crate::error::Failure;
use crate::flow::{Effect, Flow, Intake, Slice};
use crate::pauses::Pauses;

/// An epoch as its reader delivers it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SourceEpoch {
    /// The epoch; each reader's epochs follow each other without a gap.
    pub epoch: Epoch,
    /// One slice a worker, without samples if it has none.
    pub slices: Vec<Slice>,
    /// Summary of what was read.
    pub intake: Intake,
    /// Further effects of reading: clusters of features, and statistics and models of edges.
    pub effects: Vec<Effect>,
}

/// Answer of a reader.
pub enum Reading {
    /// The next epoch.
    Epoch(Box<SourceEpoch>),
    /// The next epoch is not ready yet.
    NotYet,
    /// The stream has ended.
    Ended,
}

/// Receiving end of a reader thread. It never blocks.
pub trait Reader {
    /// Takes the next epoch, if it is ready.
    fn next(&mut self) -> Result<Reading, Failure>;
}

/// Limits on how far the source runs ahead.
#[derive(Clone)]
pub struct Pace {
    /// Probe of the epochs that are committed.
    pub probe: Handle<Epoch>,
    /// Most epochs that the source may be ahead of the probe.
    pub epochs_in_flight: u64,
    /// Set to stop the run: the source then opens no further epoch.
    pub stop: Arc<AtomicBool>,
    /// For each worker, the epoch that its source opens next; [`u64::MAX`] if none.
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

/// Emits the epochs of `reader` from `start` on: their slices, each on its worker, and their
/// effects. A worker that reads nothing has no reader.
///
/// This operator alone creates capabilities. When the reader fails, it reports the failure and
/// keeps its capability: a stream that has failed must not look like one that has ended.
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
        // Neither the probe nor the reader's channel activates operators.
        let mut pauses = Pauses::default();
        let mut failed = false;
        move |output| {
            let Some((reader, capability)) = &mut open else {
                return;
            };
            if failed {
                return;
            }
            if !pace.allows(*capability.time()) {
                activator.activate_after(pauses.next());
                return;
            }
            match reader.next() {
                Ok(Reading::Epoch(epoch)) => {
                    let following = epoch.epoch.next();
                    output.session(&capability).give(*epoch);
                    capability.downgrade(&following);
                    next(following.0);
                    pauses.reset();
                    activator.activate();
                }
                Ok(Reading::NotYet) => activator.activate_after(pauses.next()),
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
