//! Receiving: models and tasks that come over the link enter the dataflow as if trained here.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;

use crate::data::{Epoch, TaskId};
use crate::epochs::OnFailure;
use crate::error::Failure;
use crate::flow::{Deployment, Flow, Predicted, TrainOutcome};

/// Receiving end of the link, which runs on a thread of its own.
pub trait OutcomeQueue {
    /// Takes the outcomes that have arrived.
    fn take(&mut self) -> Result<Vec<TrainOutcome>, Failure>;
}

/// Gate that holds samples back until the base task has a model.
#[derive(Clone)]
pub struct FirstModelGate {
    /// The first epoch that may have samples to predict; [`u64::MAX`] until it is known.
    pub opens: Arc<AtomicU64>,
    /// Number of epochs from the one in which the model arrives to the one that opens. All readers
    /// must agree on the latter, so no reader may have read that far when the model arrives.
    pub after: u64,
}

impl FirstModelGate {
    fn open(&self, epoch: Epoch) {
        if self.opens.load(Ordering::SeqCst) == u64::MAX {
            self.opens.store(epoch.0 + self.after, Ordering::SeqCst);
        }
    }
}

/// Whether an outcome deploys a model for the base task.
fn deploys_base(outcome: &TrainOutcome) -> bool {
    let deploys = matches!(outcome.deployment, Some(Deployment::Deploy(_)));
    deploys && outcome.model.task == TaskId::BASE
}

/// Emits outcomes received over the link, once an epoch, on the worker that owns `outcomes`. An
/// outcome that deploys a model for the base task opens `gate`.
pub fn receive<'scope>(
    clock: Flow<'scope, Rc<Predicted>>,
    mut outcomes: Option<impl OutcomeQueue + 'static>,
    gate: FirstModelGate,
    on_failure: OnFailure,
) -> Flow<'scope, TrainOutcome> {
    clock.unary(Pipeline, "Receive", move |_capability, _info| {
        // After a failure, its capability, so that the frontier stays there.
        let mut failed = Vec::new();
        move |input, output| {
            input.for_each(|capability, headers| {
                headers.clear();
                let Some(outcomes) = outcomes.as_mut().filter(|_| failed.is_empty()) else {
                    return;
                };
                match outcomes.take() {
                    Ok(outcomes) => {
                        if outcomes.iter().any(deploys_base)
                            && let Some(epoch) = capability.least()
                        {
                            gate.open(*epoch);
                        }
                        let mut session = output.session(&capability);
                        session.give_iterator(outcomes.into_iter());
                    }
                    Err(failure) => {
                        failed.extend(capability.retain_least(0));
                        on_failure(failure);
                    }
                }
            });
        }
    })
}
