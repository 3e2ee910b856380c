//! Following: models and tasks that come from elsewhere enter the dataflow as if they had been trained here.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;

use crate::Failure;
use crate::data::{Epoch, TaskId};
use crate::epochs::OnFailure;
use crate::flow::{Deployment, Flow, Predicted, TrainOutcome};

/// Where they come in, on a thread of its own.
pub trait Inbox {
    /// Takes what has come.
    fn take(&mut self) -> Result<Vec<TrainOutcome>, Failure>;
}

/// Holds samples back until there is a model that answers for all.
#[derive(Clone)]
pub struct FirstModelGate {
    /// The first epoch that may have samples that are predicted; [`u64::MAX`] while that is not known.
    pub opens: Arc<AtomicU64>,
    /// How many epochs after the one with which a model comes in it is. All readers are to agree on it, so that none may have
    /// read as far when the model comes.
    pub after: u64,
}

impl FirstModelGate {
    fn open(&self, epoch: Epoch) {
        if self.opens.load(Ordering::SeqCst) == u64::MAX {
            self.opens.store(epoch.0 + self.after, Ordering::SeqCst);
        }
    }
}

/// Whether a model of the base task comes with this.
fn answers_for_all(outcome: &TrainOutcome) -> bool {
    let deployment = outcome.deployment.as_ref();
    let deployed = deployment.is_some_and(|it| matches!(it, Deployment::Deploy(_)));
    deployed && outcome.model.task == TaskId::BASE
}

/// Lets what has come in with each epoch, on the worker that has the inbox.
pub fn receive<'scope>(
    clock: Flow<'scope, Rc<Predicted>>,
    mut inbox: Option<impl Inbox + 'static>,
    gate: FirstModelGate,
    on_failure: OnFailure,
) -> Flow<'scope, TrainOutcome> {
    clock.unary(Pipeline, "Follow", move |_capability, _info| {
        // Capabilities of what failed: the frontier stays where it is.
        let mut failed = Vec::new();
        move |input, output| {
            input.for_each(|capability, headers| {
                headers.clear();
                let Some(inbox) = inbox.as_mut().filter(|_| failed.is_empty()) else {
                    return;
                };
                match inbox.take() {
                    Ok(outcomes) => {
                        if let (true, Some(epoch)) =
                            (outcomes.iter().any(answers_for_all), capability.least())
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
