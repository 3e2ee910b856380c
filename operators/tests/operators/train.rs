//! Training in the order of epochs.

use std::cell::RefCell;
use std::rc::Rc;

use perennial_operators::flow::{TrainOrder, TrainOutcome};
use perennial_operators::train::{Training, TrainingMode, train};
use perennial_operators::{Epoch, Failure, ModelId, TaskId};
use timely::dataflow::InputHandle;
use timely::dataflow::operators::probe::Handle;
use timely::dataflow::operators::vec::Input;
use timely::dataflow::operators::{Inspect, Probe};
use timely::scheduling::SyncActivator;
use timely::worker::Worker;

use crate::support::end;

/// The state that the test shares with its trainer.
#[derive(Default)]
struct State {
    started: Vec<(u64, Vec<u64>)>,
    ready: Vec<u64>,
    activator: Option<SyncActivator>,
    failing: bool,
}

struct Fake(Rc<RefCell<State>>);

impl Training for Fake {
    fn start(&mut self, orders: Vec<TrainOrder>, after: Epoch, activator: &SyncActivator) {
        let mut state = self.0.borrow_mut();
        let tasks = orders.iter().map(|order| order.model.task.0).collect();
        state.started.push((after.0, tasks));
        state.activator = Some(activator.clone());
    }

    fn ended(&mut self) -> Result<Vec<TrainOutcome>, Failure> {
        let mut state = self.0.borrow_mut();
        if std::mem::take(&mut state.failing) {
            return Err("the trainer is gone".into());
        }
        let ended = state.ready.drain(..).map(|task| TrainOutcome {
            model: model(task),
            changes: Vec::new(),
            deployment: None,
            models: Vec::new(),
        });
        Ok(ended.collect())
    }
}

fn model(task: u64) -> ModelId {
    ModelId {
        task: TaskId(task),
        version: 1,
    }
}

fn order(task: u64, initial: bool) -> TrainOrder {
    TrainOrder {
        model: model(task),
        labelled: 1,
        clock: 0,
        reason: String::new(),
        initial,
        recent: None,
    }
}

struct Stream<'w> {
    worker: &'w mut Worker,
    input: Option<InputHandle<Epoch, timely::container::CapacityContainerBuilder<Vec<TrainOrder>>>>,
    state: Rc<RefCell<State>>,
    out: Rc<RefCell<Vec<(u64, u64)>>>,
    failures: Rc<RefCell<usize>>,
    probe: Handle<Epoch>,
}

impl<'w> Stream<'w> {
    fn new(worker: &'w mut Worker, mode: TrainingMode, resumed: (Epoch, Vec<TrainOrder>)) -> Self {
        let state = Rc::new(RefCell::new(State::default()));
        let out: Rc<RefCell<Vec<(u64, u64)>>> = Rc::default();
        let failures: Rc<RefCell<usize>> = Rc::default();
        let probe = Handle::new();
        let (fake, collected, failed) = (Fake(state.clone()), out.clone(), failures.clone());
        let input = worker.dataflow::<Epoch, _, _>(|scope| {
            let (input, orders) = scope.new_input();
            let fail = move |_| *failed.borrow_mut() += 1;
            train(scope, orders, Some(fake), mode, resumed, fail)
                .inspect_core(move |event| {
                    if let Ok((stamp, outcomes)) = event {
                        let epoch = stamp.least().unwrap().0;
                        let tasks = outcomes.iter().map(|outcome| (epoch, outcome.model.task.0));
                        collected.borrow_mut().extend(tasks);
                    }
                })
                .probe_with(&probe);
            input
        });
        Stream {
            worker,
            input: Some(input),
            state,
            out,
            failures,
            probe,
        }
    }

    fn epoch(&mut self, orders: &[u64], initial: bool) {
        let input = self.input.as_mut().unwrap();
        orders
            .iter()
            .for_each(|task| input.send(order(*task, initial)));
        let next = input.time().next();
        input.advance_to(next);
        self.steps();
    }

    fn ready(&mut self, tasks: &[u64]) {
        self.state.borrow_mut().ready.extend(tasks);
        self.state
            .borrow()
            .activator
            .as_ref()
            .unwrap()
            .activate()
            .unwrap();
        self.steps();
    }

    fn steps(&mut self) {
        (0..10).for_each(|_| _ = self.worker.step());
    }

    /// The first epoch that can still get outcomes.
    fn open(&self) -> Option<u64> {
        self.probe
            .with_frontier(|frontier| frontier.first().map(|epoch| epoch.0))
    }
}

fn none() -> (Epoch, Vec<TrainOrder>) {
    (Epoch(0), Vec::new())
}

#[test]
fn replay_waits_for_the_whole_round() {
    timely::execute_directly(|worker| {
        let mut stream = Stream::new(worker, TrainingMode::Replay, none());
        stream.epoch(&[], false);
        stream.epoch(&[9, 2, 5], false);
        assert_eq!(stream.state.borrow().started, [(1, vec![2, 5, 9])]);
        stream.epoch(&[7], false);
        stream.epoch(&[], false);
        assert_eq!(stream.open(), Some(2));
        stream.ready(&[9, 5]);
        assert_eq!((stream.open(), stream.out.borrow().len()), (Some(2), 0));
        // A later round that ends first waits for nothing.
        stream.ready(&[7]);
        assert_eq!(
            (stream.open(), stream.out.borrow().clone()),
            (Some(2), vec![(3, 7)])
        );
        stream.ready(&[2]);
        assert_eq!(*stream.out.borrow(), [(3, 7), (2, 2), (2, 5), (2, 9)]);
        // Orders of epoch 4 can still come, and take effect from epoch 5 on.
        assert_eq!(stream.open(), Some(5));
    });
}

#[test]
fn stream_stays_open_until_the_last_round_ends() {
    timely::execute_directly(|worker| {
        for mode in [TrainingMode::Replay, TrainingMode::Live] {
            let mut stream = Stream::new(worker, mode, none());
            stream.epoch(&[3], false);
            stream.input = None;
            stream.steps();
            assert!(stream.open().is_some());
            stream.ready(&[3]);
            assert_eq!((stream.open(), stream.out.borrow().len()), (None, 1));
        }
    });
}

#[test]
fn live_does_not_wait() {
    timely::execute_directly(|worker| {
        let mut stream = Stream::new(worker, TrainingMode::Live, none());
        stream.epoch(&[3, 4], false);
        for open in 3..7 {
            stream.epoch(&[], false);
            assert_eq!(stream.open(), Some(open));
        }
        stream.ready(&[4]);
        stream.epoch(&[6], false);
        assert_eq!(stream.open(), Some(7));
        stream.ready(&[3, 6]);
        let epochs: Vec<(u64, u64)> = stream.out.borrow().clone();
        assert_eq!(epochs, [(6, 4), (7, 3), (7, 6)]);
    });
}

#[test]
fn live_waits_for_the_initial_training() {
    timely::execute_directly(|worker| {
        let mut stream = Stream::new(worker, TrainingMode::Live, none());
        stream.epoch(&[0, 1], true);
        stream.epoch(&[], false);
        stream.epoch(&[], false);
        assert_eq!(stream.open(), Some(1));
        stream.ready(&[1]);
        stream.ready(&[0]);
        assert_eq!(*stream.out.borrow(), [(1, 0), (1, 1)]);
        assert_eq!(stream.open(), Some(4));
    });
}

#[test]
fn resumed_orders_run_first() {
    timely::execute_directly(|worker| {
        let resumed = (Epoch(41), vec![order(8, false), order(3, false)]);
        let mut stream = Stream::new(worker, TrainingMode::Replay, resumed);
        stream.input.as_mut().unwrap().advance_to(Epoch(42));
        stream.epoch(&[], false);
        assert_eq!(stream.state.borrow().started, [(41, vec![3, 8])]);
        assert_eq!(stream.open(), Some(42));
        stream.ready(&[8, 3]);
        assert_eq!(*stream.out.borrow(), [(42, 3), (42, 8)]);
        assert_eq!(stream.open(), Some(44));
    });
}

#[test]
fn live_does_not_wait_for_resumed_orders() {
    timely::execute_directly(|worker| {
        let resumed = (Epoch(41), vec![order(8, false)]);
        let mut stream = Stream::new(worker, TrainingMode::Live, resumed);
        // Before the source has resumed, the frontier is at its start.
        stream.steps();
        stream.input.as_mut().unwrap().advance_to(Epoch(42));
        stream.epoch(&[], false);
        stream.epoch(&[], false);
        stream.ready(&[8]);
        assert_eq!(*stream.out.borrow(), [(45, 8)]);
    });
}

#[test]
fn failure_keeps_the_round_open() {
    timely::execute_directly(|worker| {
        let mut stream = Stream::new(worker, TrainingMode::Replay, none());
        stream.epoch(&[3], false);
        stream.state.borrow_mut().failing = true;
        stream.ready(&[]);
        stream.epoch(&[], false);
        assert_eq!((*stream.failures.borrow(), stream.open()), (1, Some(1)));
        end(stream.worker);
    });
}
