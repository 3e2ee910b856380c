//! The commit: all effects of an epoch, gathered when nothing more can happen in it.

use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::Operator;

use crate::data::Epoch;
use crate::epochs::EpochBuffer;
use crate::flow::{Effect, EpochEffects, Flow, KnowledgeChange};

/// Takes effects to where they are made durable. Epochs come in order.
pub trait Commit {
    /// Offers the next epoch; gives it back if there is no room for it now.
    fn offer(&mut self, effects: EpochEffects) -> Option<EpochEffects>;
}

impl EpochEffects {
    /// Puts effects that arrived in any order into the one order that does not depend on workers.
    pub fn gather(epoch: Epoch, effects: Vec<Effect>) -> Self {
        let mut gathered = EpochEffects {
            epoch,
            intake: None,
            changes: Vec::new(),
            models: Vec::new(),
            predictions: Vec::new(),
            pending: Vec::new(),
            released: Vec::new(),
            shared: Vec::new(),
            pending_floor: None,
            unlabelled: 0,
            unseen: 0,
        };
        for effect in effects {
            gathered.add(effect);
        }
        gathered.changes.sort_by_key(KnowledgeChange::place);
        gathered.models.sort();
        gathered.predictions.sort_by_key(|(first, _)| *first);
        gathered.pending.sort_by_key(|(last, _)| *last);
        gathered.released.sort();
        gathered
            .shared
            .sort_by_key(|samples| samples.sequences.first().copied());
        gathered
    }

    fn add(&mut self, effect: Effect) {
        match effect {
            Effect::Intake(intake) => match &mut self.intake {
                None => self.intake = Some(intake),
                Some(whole) => whole.merge(intake),
            },
            Effect::Change(change) => self.changes.push(change),
            Effect::Model(hash, bytes) => self.models.push((hash, bytes)),
            Effect::Predictions { first, bytes, .. } => self.predictions.push((first, bytes)),
            Effect::Pending { last, bytes } => self.pending.push((last, bytes)),
            Effect::Released { last, bytes } => self.released.push((last, bytes)),
            Effect::Shared(samples) => self.shared.push(samples),
            Effect::PendingFloor(floor) => {
                let least = self.pending_floor.map_or(floor, |least| least.min(floor));
                self.pending_floor = Some(least);
            }
            Effect::Unlabelled(count) => self.unlabelled += count,
            Effect::Unseen(count) => self.unseen += count,
        }
    }
}

/// Gathers the effects of each epoch on worker 0, the one that has a `commit`, and offers them to `commit`. The epoch stays open
/// until the offer is taken, so that a probe of the result bounds how far the source runs ahead.
pub fn commit<'scope>(
    effects: Flow<'scope, Effect>,
    mut commit: Option<impl Commit + 'static>,
) -> Flow<'scope, Epoch> {
    let scope = effects.scope();
    effects.unary_frontier(
        Exchange::new(|_: &Effect| 0),
        "Commit",
        move |_capability, info| {
            let activator = scope.activator_for(info.address);
            let mut buffer = EpochBuffer::new();
            let mut refused = None;
            move |(input, frontier), output| {
                input.for_each(|capability, effects| {
                    buffer.hold(&capability, 0, effects.drain(..));
                });
                loop {
                    let (capability, effects) = match refused.take() {
                        Some(again) => again,
                        None => match buffer.next(frontier) {
                            Some((epoch, capability, effects)) => {
                                (capability, EpochEffects::gather(epoch, effects))
                            }
                            None => break,
                        },
                    };
                    let Some(commit) = &mut commit else { break };
                    match commit.offer(effects) {
                        None => output.session(&capability).give(*capability.time()),
                        Some(effects) => {
                            refused = Some((capability, effects));
                            activator.activate();
                            break;
                        }
                    }
                }
            }
        },
    )
}
