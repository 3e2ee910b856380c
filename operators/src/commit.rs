//! The commit: gathers all effects of an epoch once it is complete.

use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::Operator;

use crate::data::Epoch;
use crate::epochs::EpochBuffer;
use crate::flow::{Effect, EpochEffects, Flow, KnowledgeChange};
use crate::pauses::Pauses;

/// Receiver of effects that makes them durable. Epochs come in order.
pub trait Commit {
    /// Offers the effects of the next epoch; returns them if there is no room for them now.
    fn offer(&mut self, effects: EpochEffects) -> Option<EpochEffects>;
}

impl EpochEffects {
    /// Sorts effects, which arrive in any order, into an order that does not depend on the number
    /// of workers.
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
            undefined: 0,
        };
        for effect in effects {
            gathered.add(effect);
        }
        gathered.changes.sort_by_key(KnowledgeChange::order);
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
            Effect::Undefined(count) => self.undefined += count,
        }
    }
}

/// Gathers the effects of each epoch on worker 0, the only one with a `commit`, and offers them to
/// it. An epoch stays open until its offer is taken, so that a probe of the returned stream bounds
/// how far the source runs ahead.
pub fn commit<'scope>(
    effects: Flow<'scope, Effect>,
    mut commit: Option<impl Commit + 'static>,
) -> Flow<'scope, Epoch> {
    let scope = effects.scope();
    #[expect(
        clippy::disallowed_methods,
        reason = "holds an epoch until its offer is taken"
    )]
    effects.unary_frontier(
        Exchange::new(|_: &Effect| 0),
        "Commit",
        move |_capability, info| {
            let activator = scope.activator_for(info.address);
            let mut buffer = EpochBuffer::new();
            let mut refused = None;
            let mut pauses = Pauses::default();
            move |(input, frontier), output| {
                input.for_each(|capability, effects| {
                    buffer.hold(&capability, effects.drain(..));
                });
                while let Some((capability, effects)) = refused.take().or_else(|| {
                    let (epoch, capability, effects) = buffer.next(frontier)?;
                    Some((capability, EpochEffects::gather(epoch, effects)))
                }) {
                    let Some(commit) = &mut commit else { break };
                    match commit.offer(effects) {
                        None => {
                            pauses.reset();
                            output.session(&capability).give(*capability.time());
                        }
                        Some(effects) => {
                            refused = Some((capability, effects));
                            activator.activate_after(pauses.next());
                            break;
                        }
                    }
                }
            }
        },
    )
}
