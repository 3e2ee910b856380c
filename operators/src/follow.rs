//! Following: models and tasks that come from elsewhere enter the dataflow as if they had been trained here.

use std::rc::Rc;

use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;

use crate::Failure;
use crate::flow::{Flow, Scored, TrainOutcome};

/// Where they come in, on a thread of its own.
pub trait Inbox {
    /// Takes what has come.
    fn take(&mut self) -> Result<Vec<TrainOutcome>, Failure>;
}

/// Lets what has come in with each epoch, on the worker that has the inbox.
pub fn follow<'scope>(
    clock: Flow<'scope, Rc<Scored>>,
    mut inbox: Option<impl Inbox + 'static>,
    fail: impl Fn(Failure) + 'static,
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
                    Ok(outcomes) => output
                        .session(&capability)
                        .give_iterator(outcomes.into_iter()),
                    Err(failure) => {
                        failed.extend(capability.retain_least(0));
                        fail(failure);
                    }
                }
            });
        }
    })
}
