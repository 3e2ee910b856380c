//! Training in the order of epochs: takes orders, and emits outcomes for the feedback edge.

use std::collections::BTreeMap;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::Scope;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::progress::Antichain;
use timely::progress::frontier::MutableAntichain;
use timely::scheduling::SyncActivator;

use crate::data::{Epoch, EpochsLater, ModelId};
use crate::epochs::{EpochBuffer, OnFailure};
use crate::error::Failure;
use crate::flow::{Flow, TrainOrder, TrainOutcome};

/// Trainer that carries out training stages on threads of its own.
pub trait Training {
    /// Starts the stages of orders that were given together, once everything up to the epoch
    /// `after` is committed. Activates `activator` when an outcome is ready.
    fn start(&mut self, orders: Vec<TrainOrder>, after: Epoch, activator: &SyncActivator);

    /// Takes the outcomes that are ready.
    fn ended(&mut self) -> Result<Vec<TrainOutcome>, Failure>;
}

/// Whether the stream waits for training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrainingMode {
    /// An order of epoch `e` is carried out in epoch `e + 1`, which stays open until then. The same
    /// input gives the same models.
    Replay,
    /// The stream goes on; an outcome enters at the epoch in which it is ready.
    Live,
}

/// Orders that are carried out in one epoch, with the capability that holds it open.
struct Round {
    capability: Capability<Epoch>,
    running: usize,
    outcomes: Vec<TrainOutcome>,
}

/// Orders under way.
#[derive(Default)]
struct Rounds {
    /// Orders that the stream waits for, by the epoch that they hold open.
    held: BTreeMap<Epoch, Round>,
    /// The round of each held order. The outcome of any other order enters when it is ready.
    round_of: BTreeMap<ModelId, Epoch>,
    /// Number of live orders under way, with the capability for their outcomes, which follows the
    /// frontier.
    free: Option<(Capability<Epoch>, usize)>,
}

impl Rounds {
    fn hold(&mut self, capability: Capability<Epoch>, model: ModelId) {
        let epoch = *capability.time();
        self.round_of.insert(model, epoch);
        let round = self.held.entry(epoch).or_insert_with(|| Round {
            capability,
            running: 0,
            outcomes: Vec::new(),
        });
        round.running += 1;
    }

    fn run_free(&mut self, capability: Capability<Epoch>) {
        let running = self.free.as_ref().map_or(0, |(_, running)| *running);
        self.free = Some((capability, running + 1));
    }

    /// Moves the capability of live orders on with the frontier, so that it holds no epoch open.
    fn follow(&mut self, frontier: &MutableAntichain<Epoch>) {
        if let Some((capability, _)) = &mut self.free
            && let Some(epoch) = frontier.frontier().first()
            // At the start, the frontier is before the epoch of resumed orders.
            && epoch.next() > *capability.time()
        {
            capability.downgrade(&epoch.next());
        }
    }

    /// Adds an outcome to its round; returns it with its capability if it is of a live order.
    fn file(&mut self, outcome: TrainOutcome) -> Option<(Capability<Epoch>, TrainOutcome)> {
        if let Some(epoch) = self.round_of.remove(&outcome.model) {
            if let Some(round) = self.held.get_mut(&epoch) {
                round.running -= 1;
                round.outcomes.push(outcome);
            }
            return None;
        }
        let (capability, running) = self.free.take()?;
        if running > 1 {
            self.free = Some((capability.clone(), running - 1));
        }
        Some((capability, outcome))
    }

    /// Takes the rounds whose orders have all ended.
    fn take_ended(&mut self) -> Vec<Round> {
        let ended: Vec<Epoch> = self
            .held
            .iter()
            .filter(|(_, round)| round.running == 0)
            .map(|(epoch, _)| *epoch)
            .collect();
        ended
            .iter()
            .filter_map(|epoch| self.held.remove(epoch))
            .collect()
    }
}

/// Path summary of the operator: orders of epoch `e` take effect in `e + 1` at the earliest, so
/// inference need not wait for the statistics of the epoch just before.
const LATER: EpochsLater = EpochsLater(1);

/// Carries out training orders, all on worker 0, the only one with a `training`. `resumed` has the
/// last committed epoch, and the orders up to it that an earlier run has not finished.
pub fn train<'scope, T: Training + 'static>(
    scope: Scope<'scope, Epoch>,
    orders: Flow<'scope, TrainOrder>,
    mut training: Option<T>,
    mode: TrainingMode,
    resumed: (Epoch, Vec<TrainOrder>),
    on_failure: OnFailure,
) -> Flow<'scope, TrainOutcome> {
    let worker = scope.worker().clone();
    let mut builder = OperatorBuilder::new("Train".to_owned(), scope);
    let mut input = builder.new_input_connection(orders, Exchange::new(|_: &TrainOrder| 0), []);
    let (output, outcomes) = builder.new_output_connection([(0, Antichain::from_elem(LATER))]);
    let mut output = OutputBuilder::<_, CapacityContainerBuilder<Vec<TrainOutcome>>>::from(output);
    let activator = worker.sync_activator_for(builder.operator_info().address.to_vec());
    builder.build(move |capabilities| {
        let mut buffer = EpochBuffer::new();
        let mut rounds = Rounds::default();
        // `capability` is of the epoch after that of the orders.
        let begin = move |rounds: &mut Rounds,
                          training: &mut Option<T>,
                          after: Epoch,
                          capability: &Capability<Epoch>,
                          mut orders: Vec<TrainOrder>| {
            orders.sort_by_key(|order| order.model);
            for order in &orders {
                if order.initial || mode == TrainingMode::Replay {
                    rounds.hold(capability.clone(), order.model);
                } else {
                    rounds.run_free(capability.clone());
                }
            }
            if let Some(training) = training {
                training.start(orders, after, &activator);
            }
        };
        let (committed, resumed) = resumed;
        if let Some(capability) = capabilities.first().filter(|_| !resumed.is_empty()) {
            let capability = capability.delayed(&committed.next());
            begin(&mut rounds, &mut training, committed, &capability, resumed);
        }
        drop(capabilities);
        move |frontiers| {
            let frontier = &frontiers[0];
            let mut output = output.activate();
            input.for_each(|capability, orders| {
                buffer.hold_next(&capability, orders.drain(..));
            });
            while let Some((epoch, capability, orders)) = buffer.next(frontier) {
                begin(&mut rounds, &mut training, epoch, &capability, orders);
            }
            rounds.follow(frontier);
            match training.as_mut().map_or(Ok(Vec::new()), T::ended) {
                Ok(ended) => {
                    for outcome in ended {
                        if let Some((capability, outcome)) = rounds.file(outcome) {
                            output.session(&capability).give(outcome);
                        }
                    }
                }
                Err(failure) => on_failure(failure),
            }
            for mut round in rounds.take_ended() {
                round.outcomes.sort_by_key(|outcome| outcome.model);
                output
                    .session(&round.capability)
                    .give_iterator(round.outcomes.into_iter());
            }
        }
    });
    outcomes
}
