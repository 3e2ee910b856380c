//! The source: what enters the dataflow, and how its lead is bounded.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use perennial_operators::flow::Effect;
use perennial_operators::source::{Pace, Reader, Reading, SourceEpoch, source};
use perennial_operators::{Batch, Epoch, Failure, Slice};
use timely::dataflow::operators::probe::Handle;
use timely::dataflow::operators::vec::{Filter, Input};
use timely::dataflow::operators::{Inspect, Probe};
use timely::worker::Worker;

use crate::support::{end, header, intake, run};

/// The results of a reader, one by one; then nothing.
#[derive(Clone, Copy)]
enum Step {
    Epoch,
    Wait,
    End,
    Fail,
}

struct Script {
    epoch: u64,
    steps: VecDeque<Step>,
    asked: Rc<RefCell<usize>>,
}

impl Reader for Script {
    fn next(&mut self) -> Result<Reading, Failure> {
        *self.asked.borrow_mut() += 1;
        match self.steps.pop_front() {
            Some(Step::Epoch) => {
                let epoch = self.epoch;
                self.epoch += 1;
                let slices = (0..2).map(|worker| Slice {
                    worker,
                    header: header(epoch, 0, 0),
                    batch: Batch::default(),
                    labels: Default::default(),
                    clusters: None,
                });
                Ok(Reading::Epoch(Box::new(SourceEpoch {
                    epoch: Epoch(epoch),
                    slices: slices.collect(),
                    intake: intake(epoch, 1),
                    effects: Vec::new(),
                })))
            }
            Some(Step::Wait) | None => Ok(Reading::NotYet),
            Some(Step::End) => Ok(Reading::Ended),
            Some(Step::Fail) => Err("the file is gone".into()),
        }
    }
}

struct Read {
    /// Epochs whose intake the source has emitted.
    epochs: Rc<RefCell<Vec<u64>>>,
    failures: Rc<RefCell<usize>>,
    asked: Rc<RefCell<usize>>,
    stop: Arc<AtomicBool>,
    next: Arc<Vec<AtomicU64>>,
    /// The progress of the source itself.
    opened: Handle<Epoch>,
}

/// A source from epoch 7 on, paced by another input in place of the rest of the dataflow.
fn read(
    worker: &mut Worker,
    steps: &[Step],
    in_flight: u64,
) -> (
    Read,
    timely::dataflow::InputHandle<Epoch, timely::container::CapacityContainerBuilder<Vec<u8>>>,
) {
    let read = Read {
        epochs: Rc::default(),
        failures: Rc::default(),
        asked: Rc::default(),
        stop: Arc::default(),
        next: Arc::new(vec![AtomicU64::new(0)]),
        opened: Handle::new(),
    };
    let pace = Pace {
        probe: Handle::new(),
        epochs_in_flight: in_flight,
        stop: read.stop.clone(),
        next: read.next.clone(),
    };
    let reader = Script {
        epoch: 7,
        steps: steps.iter().copied().collect(),
        asked: read.asked.clone(),
    };
    let (epochs, failures) = (read.epochs.clone(), read.failures.clone());
    let mut input = worker.dataflow::<Epoch, _, _>(|scope| {
        let (input, rest) = scope.new_input::<u8>();
        rest.probe_with(&pace.probe);
        let fail = move |_| *failures.borrow_mut() += 1;
        let (slices, effects) = source(scope, Some(reader), Epoch(7), pace, fail);
        slices
            .filter(|slice| slice.worker > 1)
            .probe_with(&read.opened);
        effects.inspect(move |effect| {
            if let Effect::Intake(intake) = effect {
                epochs.borrow_mut().push(intake.header.epoch.0);
            }
        });
        input
    });
    input.advance_to(Epoch(7));
    (read, input)
}

fn steps(worker: &mut Worker) {
    for _ in 0..40 {
        worker.step();
        std::thread::sleep(Duration::from_micros(120));
    }
}

#[test]
fn source_lead_is_bounded() {
    timely::execute_directly(|worker| {
        let (read, mut rest) = read(worker, &[Step::Epoch; 20], 3);
        steps(worker);
        assert_eq!(*read.epochs.borrow(), [7, 8, 9]);
        rest.advance_to(Epoch(9));
        steps(worker);
        assert_eq!(*read.epochs.borrow(), [7, 8, 9, 10, 11]);
        assert_eq!(read.next[0].load(Ordering::Acquire), 12);
        read.stop.store(true, Ordering::Relaxed);
        rest.advance_to(Epoch(20));
        steps(worker);
        assert_eq!(
            read.epochs.borrow().len(),
            5,
            "a stopped source opens no epoch"
        );
        end(worker);
    });
}

#[test]
fn ended_source_closes_and_failed_source_stays_open() {
    timely::execute_directly(|worker| {
        let (read, rest) = read(
            worker,
            &[Step::Epoch, Step::Wait, Step::Epoch, Step::End],
            9,
        );
        steps(worker);
        assert_eq!(*read.epochs.borrow(), [7, 8]);
        assert!(read.opened.done());
        assert_eq!(read.next[0].load(Ordering::Acquire), u64::MAX);
        drop(rest);
    });
    timely::execute_directly(|worker| {
        let (read, rest) = read(worker, &[Step::Epoch, Step::Fail, Step::Epoch], 9);
        steps(worker);
        assert_eq!(
            (read.epochs.borrow().clone(), *read.failures.borrow()),
            (vec![7], 1)
        );
        assert_eq!(
            *read.asked.borrow(),
            2,
            "a reader that failed is asked no more"
        );
        assert!(
            read.opened.less_equal(&Epoch(8)),
            "a failed stream looks like an ended one"
        );
        drop(rest);
        end(worker);
    });
}

#[test]
fn slices_go_to_their_workers() {
    let went = run(2, vec![(0, vec![(0, 0_u8)])], true, |scope, _| {
        let reader = (scope.index() == 0).then(|| Script {
            epoch: 0,
            steps: [Step::Epoch, Step::Epoch, Step::End].into(),
            asked: Rc::default(),
        });
        let pace = Pace {
            probe: Handle::new(),
            epochs_in_flight: 5,
            stop: Arc::default(),
            next: Arc::new((0..2).map(AtomicU64::new).collect()),
        };
        let index = scope.index();
        let (slices, _) = source(scope, reader, Epoch(0), pace, |_| {});
        timely::dataflow::operators::vec::Map::map(slices, move |slice: Slice| {
            (slice.header.epoch.0, slice.worker == index)
        })
    });
    let mut went: Vec<_> = went
        .into_iter()
        .map(|(epoch, record)| (epoch.0, record))
        .collect();
    went.sort_unstable();
    let expected = [0, 0, 1, 1].map(|epoch| (epoch, (epoch, true)));
    assert_eq!(went, expected);
}
