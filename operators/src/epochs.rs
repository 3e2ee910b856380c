//! Three verbs on streams, with which nearly all operators are written.
//!
//! | verb | calls its logic |
//! | --- | --- |
//! | [`each`](Epochs::each) | with each record, as it arrives |
//! | [`per_epoch`](Epochs::per_epoch) | with all records of an epoch, once it is complete |
//! | [`each_after`](Epochs::each_after) | with each record, once its epoch's feedback is complete |
//!
//! Capabilities, frontiers and failures are handled here. An operator is written by hand only where
//! it keeps, moves or refuses capabilities for a reason of its own: the source, statistics,
//! training, the link's outcomes, and the commit.
//!
//! An operator that fails reports the failure once and then does nothing more. It keeps the
//! capability of the failed epoch, so that the frontier stays there: an epoch that failed must not
//! look complete.

use std::collections::BTreeMap;
use std::rc::Rc;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::Scope;
use timely::dataflow::channels::pact::{ParallelizationContract, Pipeline};
use timely::dataflow::operators::generic::{Operator, Session, source};
use timely::dataflow::operators::{Capability, InputCapability};
use timely::progress::frontier::MutableAntichain;

use crate::data::Epoch;
use crate::error::Failure;
use crate::flow::Flow;

/// Callback that reports the failure of an operator.
pub type OnFailure = Rc<dyn Fn(Failure)>;

/// Output of an operator in one epoch: `give` sends a record, `give_iterator` several.
pub type Out<'a, 'b, O> =
    Session<'a, 'b, Epoch, CapacityContainerBuilder<Vec<O>>, Capability<Epoch>>;

/// Verbs on a stream whose timestamps are epochs.
pub trait Epochs<'scope, D: 'static>: Sized {
    /// Maps each record to any number of others as it arrives, like `flat_map`, under a name of its
    /// own in the graph.
    ///
    /// ```
    /// use perennial_operators::Epoch;
    /// use perennial_operators::epochs::{Epochs, once};
    /// use timely::dataflow::operators::{Capture, capture::Extract};
    ///
    /// let captured = timely::execute_directly(|worker| {
    ///     worker.dataflow::<Epoch, _, _>(|scope| {
    ///         let numbers = once(scope, Epoch(3), 20);
    ///         numbers.each("Halve", |number| [number / 2, number / 2]).capture()
    ///     })
    /// });
    /// assert_eq!(captured.extract(), [(Epoch(3), vec![10, 10])]);
    /// ```
    fn each<I>(self, name: &str, logic: impl FnMut(D) -> I + 'static) -> Flow<'scope, I::Item>
    where
        I: IntoIterator + 'static,
        I::Item: 'static;

    /// Calls `logic` with all records of an epoch once no more can arrive. Epochs come in order;
    /// an epoch without records is left out.
    ///
    /// ```
    /// use perennial_operators::Epoch;
    /// use perennial_operators::epochs::{Epochs, once};
    /// use timely::dataflow::channels::pact::Pipeline;
    /// use timely::dataflow::operators::{Capture, Concat, capture::Extract};
    ///
    /// let captured = timely::execute_directly(|worker| {
    ///     worker.dataflow::<Epoch, _, _>(|scope| {
    ///         let one = once(scope, Epoch(1), 1);
    ///         let numbers = one.concat(once(scope, Epoch(1), 2)).concat(once(scope, Epoch(2), 4));
    ///         numbers
    ///             .per_epoch(Pipeline, "Sum", |_epoch, numbers: Vec<u64>, out| {
    ///                 out.give(numbers.iter().sum::<u64>());
    ///             })
    ///             .capture()
    ///     })
    /// });
    /// assert_eq!(captured.extract(), [(Epoch(1), vec![3]), (Epoch(2), vec![4])]);
    /// ```
    fn per_epoch<O: 'static>(
        self,
        pact: impl ParallelizationContract<Epoch, Vec<D>>,
        name: &str,
        logic: impl FnMut(Epoch, Vec<D>, &mut Out<'_, '_, O>) + 'static,
    ) -> Flow<'scope, O>;

    /// Like [`per_epoch`](Epochs::per_epoch), for logic that can fail.
    fn try_per_epoch<O: 'static>(
        self,
        pact: impl ParallelizationContract<Epoch, Vec<D>>,
        name: &str,
        on_failure: OnFailure,
        logic: impl FnMut(Epoch, Vec<D>, &mut Out<'_, '_, O>) -> Result<(), Failure> + 'static,
    ) -> Flow<'scope, O>;

    /// Calls `logic` with each record once no more `feedback` can arrive for its epoch. First calls
    /// `receive` with the feedback up to that epoch, epoch by epoch. Both work on `state`.
    ///
    /// ```
    /// use std::rc::Rc;
    ///
    /// use perennial_operators::Epoch;
    /// use perennial_operators::epochs::{Epochs, once};
    /// use timely::dataflow::operators::{Capture, Concat, capture::Extract};
    ///
    /// let captured = timely::execute_directly(|worker| {
    ///     worker.dataflow::<Epoch, _, _>(|scope| {
    ///         let numbers = once(scope, Epoch(1), 10).concat(once(scope, Epoch(2), 20));
    ///         let factors = once(scope, Epoch(2), 3);
    ///         let on_failure = Rc::new(|failure| panic!("{failure}"));
    ///         let multiplied = numbers.each_after(
    ///             factors,
    ///             "Multiply",
    ///             on_failure,
    ///             1,
    ///             |factor, feedback| {
    ///                 feedback.into_iter().for_each(|new| *factor = new);
    ///                 Ok(())
    ///             },
    ///             |factor, number, out| {
    ///                 out.give(*factor * number);
    ///                 Ok(())
    ///             },
    ///         );
    ///         multiplied.capture()
    ///     })
    /// });
    /// // A factor is in force from its epoch on.
    /// assert_eq!(captured.extract(), [(Epoch(1), vec![10]), (Epoch(2), vec![60])]);
    /// ```
    fn each_after<S: 'static, F: 'static, O: 'static>(
        self,
        feedback: Flow<'scope, F>,
        name: &str,
        on_failure: OnFailure,
        state: S,
        receive: impl FnMut(&mut S, Vec<F>) -> Result<(), Failure> + 'static,
        logic: impl FnMut(&mut S, D, &mut Out<'_, '_, O>) -> Result<(), Failure> + 'static,
    ) -> Flow<'scope, O>;
}

#[expect(clippy::disallowed_methods, reason = "the verbs are written with them")]
impl<'scope, D: 'static> Epochs<'scope, D> for Flow<'scope, D> {
    fn each<I>(self, name: &str, mut logic: impl FnMut(D) -> I + 'static) -> Flow<'scope, I::Item>
    where
        I: IntoIterator + 'static,
        I::Item: 'static,
    {
        self.unary(Pipeline, name, move |_capability, _info| {
            move |input, output| {
                input.for_each(|capability, records| {
                    let mut session = output.session(&capability);
                    for record in records.drain(..) {
                        session.give_iterator(logic(record).into_iter());
                    }
                });
            }
        })
    }

    fn per_epoch<O: 'static>(
        self,
        pact: impl ParallelizationContract<Epoch, Vec<D>>,
        name: &str,
        mut logic: impl FnMut(Epoch, Vec<D>, &mut Out<'_, '_, O>) + 'static,
    ) -> Flow<'scope, O> {
        self.try_per_epoch(pact, name, Rc::new(drop), move |epoch, records, out| {
            logic(epoch, records, out);
            Ok(())
        })
    }

    fn try_per_epoch<O: 'static>(
        self,
        pact: impl ParallelizationContract<Epoch, Vec<D>>,
        name: &str,
        on_failure: OnFailure,
        mut logic: impl FnMut(Epoch, Vec<D>, &mut Out<'_, '_, O>) -> Result<(), Failure> + 'static,
    ) -> Flow<'scope, O> {
        self.unary_frontier(pact, name, move |_capability, _info| {
            let mut buffer = EpochBuffer::new();
            let mut failed = None;
            move |(input, frontier), output| {
                input.for_each(|capability, records| {
                    buffer.hold(&capability, records.drain(..));
                });
                while failed.is_none()
                    && let Some((epoch, capability, records)) = buffer.next(frontier)
                {
                    let result = logic(epoch, records, &mut output.session(&capability));
                    if let Err(failure) = result {
                        failed = Some(capability);
                        on_failure(failure);
                    }
                }
            }
        })
    }

    fn each_after<S: 'static, F: 'static, O: 'static>(
        self,
        feedback: Flow<'scope, F>,
        name: &str,
        on_failure: OnFailure,
        mut state: S,
        mut receive: impl FnMut(&mut S, Vec<F>) -> Result<(), Failure> + 'static,
        mut logic: impl FnMut(&mut S, D, &mut Out<'_, '_, O>) -> Result<(), Failure> + 'static,
    ) -> Flow<'scope, O> {
        self.binary_frontier(
            feedback,
            Pipeline,
            Pipeline,
            name,
            move |_capability, _info| {
                let mut buffer = EpochBuffer::new();
                let mut received = FeedbackBuffer::new();
                let mut failed = None;
                move |(input, _), (feedback, feedback_frontier), output| {
                    input.for_each(|capability, records| {
                        buffer.hold(&capability, records.drain(..));
                    });
                    feedback.for_each(|capability, records| received.push(&capability, records));
                    while failed.is_none()
                        && let Some((epoch, capability, records)) = buffer.next(feedback_frontier)
                    {
                        let mut out = output.session(&capability);
                        let run = || {
                            for feedback in received.take_until(epoch) {
                                receive(&mut state, feedback)?;
                            }
                            for record in records {
                                logic(&mut state, record, &mut out)?;
                            }
                            Ok(())
                        };
                        let result = run();
                        drop(out);
                        if let Err(failure) = result {
                            failed = Some(capability);
                            on_failure(failure);
                        }
                    }
                }
            },
        )
    }
}

/// Stream of one record in `epoch`, on this worker.
pub fn once<D: 'static>(scope: Scope<'_, Epoch>, epoch: Epoch, record: D) -> Flow<'_, D> {
    source(scope, "Once", move |capability, _info| {
        let mut pending = Some((capability.delayed(&epoch), record));
        move |output| {
            if let Some((capability, record)) = pending.take() {
                output.session(&capability).give(record);
            }
        }
    })
}

/// Whether no record of `epoch` can arrive any more.
fn is_complete(frontier: &MutableAntichain<Epoch>, epoch: Epoch) -> bool {
    !frontier.less_equal(&epoch)
}

/// Records of open epochs, each epoch with a capability for output 0.
pub(crate) struct EpochBuffer<D> {
    epochs: BTreeMap<Epoch, (Capability<Epoch>, Vec<D>)>,
}

impl<D> EpochBuffer<D> {
    pub(crate) fn new() -> Self {
        EpochBuffer {
            epochs: BTreeMap::new(),
        }
    }

    /// Holds records that arrived with `capability`, and the capability to send in their epoch.
    pub(crate) fn hold(
        &mut self,
        capability: &InputCapability<Epoch>,
        records: impl IntoIterator<Item = D>,
    ) {
        // A timestamp of this dataflow is a single epoch, so there always is a least one.
        if let Some(epoch) = capability.least() {
            self.hold_at(*epoch, || capability.delayed(epoch, 0), records);
        }
    }

    /// Holds records that arrived with `capability`, and the capability to send one epoch later.
    pub(crate) fn hold_next(
        &mut self,
        capability: &InputCapability<Epoch>,
        records: impl IntoIterator<Item = D>,
    ) {
        if let Some(epoch) = capability.least() {
            self.hold_at(*epoch, || capability.delayed(&epoch.next(), 0), records);
        }
    }

    fn hold_at(
        &mut self,
        epoch: Epoch,
        capability: impl FnOnce() -> Capability<Epoch>,
        records: impl IntoIterator<Item = D>,
    ) {
        self.epochs
            .entry(epoch)
            .or_insert_with(|| (capability(), Vec::new()))
            .1
            .extend(records);
    }

    /// Takes the earliest epoch, if it is complete. One at a time, so that an operator that fails
    /// at an epoch still holds the capabilities of later ones.
    pub(crate) fn next(
        &mut self,
        frontier: &MutableAntichain<Epoch>,
    ) -> Option<(Epoch, Capability<Epoch>, Vec<D>)> {
        let entry = self.epochs.first_entry()?;
        is_complete(frontier, *entry.key()).then(|| {
            let (epoch, (capability, records)) = entry.remove_entry();
            (epoch, capability, records)
        })
    }
}

/// Feedback by the epoch from which on it is in force. It needs no capabilities: nothing is sent
/// in reply.
struct FeedbackBuffer<D> {
    epochs: BTreeMap<Epoch, Vec<D>>,
}

impl<D> FeedbackBuffer<D> {
    fn new() -> Self {
        FeedbackBuffer {
            epochs: BTreeMap::new(),
        }
    }

    /// Adds records that arrived with `capability`.
    fn push(&mut self, capability: &InputCapability<Epoch>, records: &mut Vec<D>) {
        if let Some(epoch) = capability.least() {
            self.epochs.entry(*epoch).or_default().append(records);
        }
    }

    /// Takes the feedback for epochs up to `epoch`, epoch by epoch.
    fn take_until(&mut self, epoch: Epoch) -> impl Iterator<Item = Vec<D>> + use<D> {
        let later = self.epochs.split_off(&epoch.next());
        std::mem::replace(&mut self.epochs, later).into_values()
    }
}
