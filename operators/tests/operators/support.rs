//! Runs an operator in a dataflow of its own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use ndarray::{ArrayView2, ArrayViewMut2};
use perennial_operators::flow::{Flow, Intake};
use perennial_operators::{Epoch, TaskId};
use timely::dataflow::Scope;
use timely::dataflow::operators::probe::Handle;
use timely::dataflow::operators::vec::Input;
use timely::dataflow::operators::{Inspect, Probe};
use timely::worker::Worker;

pub use crate::rows::{FINEST, Row, allocated, batch, difference, header, levels, scored, value};

/// The input of a dataflow: epochs in order, with their records and the workers that they enter at.
pub type Script<A> = Vec<(u64, Vec<(usize, A)>)>;

/// Runs the dataflow of `build` on some workers and returns its output, each record with its epoch,
/// in the order of arrival. In `lockstep` an epoch enters after the one before has ended; otherwise
/// all enter at once.
pub fn run<A, B, F>(workers: usize, script: Script<A>, lockstep: bool, build: F) -> Vec<(Epoch, B)>
where
    A: Clone + Send + Sync + 'static,
    B: Clone + Send + 'static,
    F: for<'s> Fn(Scope<'s, Epoch>, Flow<'s, A>) -> Flow<'s, B> + Send + Sync + 'static,
{
    let results = Arc::new(Mutex::new(Vec::new()));
    let collected = results.clone();
    let guards = timely::execute(timely::Config::process(workers), move |worker| {
        let (index, peers) = (worker.index(), worker.peers());
        let probe = Handle::new();
        let collected = collected.clone();
        let mut input = worker.dataflow::<Epoch, _, _>(|scope| {
            let (input, flow) = scope.new_input::<A>();
            build(scope, flow)
                .inspect_core(move |event| {
                    if let Ok((stamp, records)) = event {
                        let epoch = *stamp.least().expect("a stamp");
                        let mut collected = collected.lock().expect("collected");
                        collected.extend(records.iter().map(|record: &B| (epoch, record.clone())));
                    }
                })
                .probe_with(&probe);
            input
        });
        for (epoch, records) in &script {
            input.advance_to(Epoch(*epoch));
            for (at, record) in records {
                if at % peers == index {
                    input.send(record.clone());
                }
            }
            if lockstep {
                input.advance_to(Epoch(epoch + 1));
                worker.step_while(|| probe.less_than(&Epoch(epoch + 1)));
            }
        }
        input.close();
        worker.step_while(|| !probe.done());
    });
    drop(guards.expect("workers"));
    Arc::try_unwrap(results)
        .unwrap_or_else(|shared| Mutex::new(shared.lock().expect("results").clone()))
        .into_inner()
        .expect("results")
}

/// Drops the dataflows of a worker that would stay open forever.
pub fn end(worker: &mut Worker) {
    for dataflow in worker.installed_dataflows() {
        worker.drop_dataflow(dataflow);
    }
}

/// Predicts each row with a made-up model of its first feature.
pub fn say<const N: usize>(
    features: ArrayView2<'_, f32>,
    mut probabilities: ArrayViewMut2<'_, f32>,
    of: impl Fn(f32) -> [f32; N],
) {
    assert_eq!(features.nrows(), probabilities.nrows());
    for (row, mut to) in features.rows().into_iter().zip(probabilities.rows_mut()) {
        to.assign(&ndarray::arr1(&of(row[0])));
    }
}

/// The task of this number; numbers are spread over the workers.
pub fn task(number: u64) -> TaskId {
    TaskId(number)
}

/// The intake of an epoch.
pub fn intake(epoch: u64, records: u64) -> Intake {
    Intake {
        header: header(epoch, records, records as i64),
        records,
        samples: records,
        bootstrapped: 0,
        ended: false,
        dead_letters: Vec::new(),
        offsets: Default::default(),
        topics: BTreeMap::new(),
        refused: Default::default(),
        early_labels: Vec::new(),
        settled_labels: Vec::new(),
        seen: Default::default(),
        edges: BTreeMap::new(),
        histories: BTreeMap::new(),
    }
}

/// The output with one worker; asserts the same with two and three.
pub fn on_any_number_of_workers<T: PartialEq + std::fmt::Debug>(of: impl Fn(usize) -> T) -> T {
    let one = of(1);
    for workers in 2..4 {
        assert_eq!(one, of(workers), "{workers} workers");
    }
    one
}
