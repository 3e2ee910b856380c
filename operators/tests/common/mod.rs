//! What the tests of the operators share: samples made up, and a way to run an operator.

#![allow(dead_code)]

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use ndarray::{Array2, ArrayView2, ArrayViewMut2};
use perennial_operators::algorithms::pool::{Integration, Pool};
use perennial_operators::flow::{Allocated, EpochHeader, Flow, Intake, Phase, Predicted};
use perennial_operators::ingest::Allocator;
use perennial_operators::predict::InferenceRules;
use perennial_operators::{
    Batch, Dictionary, Epoch, LabelKind, Level, MISSING, ModelId, Score, TaskDifference, TaskId,
    TaskLevels, Texts,
};
use timely::dataflow::Scope;
use timely::dataflow::operators::probe::Handle;
use timely::dataflow::operators::vec::Input;
use timely::dataflow::operators::{Inspect, Probe};
use timely::worker::Worker;

/// What enters a dataflow: epochs in order, each with its records and the workers that they enter at.
pub type Script<A> = Vec<(u64, Vec<(usize, A)>)>;

/// Runs what `build` makes on some workers and returns what came out, each record with its epoch, in
/// the order in which it came. In `lockstep` an epoch enters when the one before it is over; otherwise
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

/// Ends a worker whose dataflow would stay open for ever.
pub fn end(worker: &mut Worker) {
    for dataflow in worker.installed_dataflows() {
        worker.drop_dataflow(dataflow);
    }
}

/// A sample as the tests make it up.
#[derive(Clone, Debug)]
pub struct Row {
    pub time: i64,
    /// Codes of the attributes; see [`value`].
    pub attributes: Vec<u32>,
    pub features: Vec<f32>,
    pub label: f32,
}

/// The text behind a code.
pub fn value(code: u32) -> String {
    format!("v{code}")
}

/// A batch of rows that all have as many attributes and features.
pub fn batch(first: u64, rows: &[Row]) -> Batch {
    let columns = rows.first().map_or(0, |row| row.attributes.len());
    let width = rows.first().map_or(0, |row| row.features.len());
    let highest = |column: usize| {
        let codes = rows.iter().map(|row| row.attributes[column]);
        codes.filter(|code| *code != MISSING).max().unwrap_or(0)
    };
    let dictionaries = (0..columns).map(|column| {
        let dictionary = Dictionary::default();
        for code in 0..=highest(column) {
            dictionary.push(&value(code));
        }
        dictionary
    });
    let mut ids = Texts::default();
    (0..rows.len()).for_each(|row| ids.push(&format!("r{}", first + row as u64)));
    Batch {
        first,
        ids,
        times: rows.iter().map(|row| row.time).collect(),
        attributes: (0..columns)
            .map(|column| rows.iter().map(|row| row.attributes[column]).collect())
            .collect(),
        dictionaries: Arc::new(dictionaries.collect()),
        features: Array2::from_shape_fn((rows.len(), width), |(row, column)| {
            rows[row].features[column]
        }),
        labels: rows.iter().map(|row| row.label).collect(),
        ..Batch::default()
    }
}

/// The header of a scored epoch.
pub fn header(epoch: u64, end: u64, clock: i64) -> EpochHeader {
    EpochHeader {
        epoch: Epoch(epoch),
        end,
        clock,
        phase: Phase::Live,
    }
}

/// Levels of one attribute each: column 0, column 1, …, named `a0`, `a1`, ….
pub fn levels(columns: usize) -> TaskLevels {
    TaskLevels {
        levels: (0..columns)
            .map(|column| Level::Attributes(vec![(column, format!("a{column}"))]))
            .collect(),
    }
}

/// Rows allocated to tasks by all of their attributes.
pub fn allocated(header: EpochHeader, first: u64, rows: &[Row]) -> Allocated {
    let columns = rows.first().map_or(0, |row| row.attributes.len());
    Allocator::new(levels(columns)).allocate(header, batch(first, rows))
}

/// Rows with made-up predictions of two classes: the probability of class 1 is the first feature's
/// fraction.
pub fn scored(header: EpochHeader, first: u64, rows: &[Row]) -> Rc<Predicted> {
    let allocated = Rc::new(allocated(header, first, rows));
    if header.phase != Phase::Live || rows.is_empty() {
        return Rc::new(Predicted {
            allocated,
            probabilities: Array2::zeros((0, 2)),
            pools: Vec::new(),
            outputs: Array2::zeros((0, 2)),
            baselines: Vec::new(),
            recognized: None,
            trials: Vec::new(),
        });
    }
    let probabilities = Array2::from_shape_fn((rows.len(), 2), |(row, class)| {
        let one = rows[row].features[0].abs().fract();
        if class == 1 { one } else { 1.0 - one }
    });
    let pools = allocated.groups.iter().map(|group| {
        let model = ModelId {
            task: group.path.leaf().task,
            version: 1,
        };
        Rc::new(Pool::of(model, 2))
    });
    Rc::new(Predicted {
        pools: pools.collect(),
        outputs: probabilities.clone(),
        baselines: vec![probabilities.clone()],
        recognized: None,
        trials: Vec::new(),
        probabilities,
        allocated,
    })
}

/// What a made-up model says of each row, by the row's first feature.
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

/// Two classes, and the finest model answers as it is.
pub const FINEST: InferenceRules = InferenceRules {
    kind: LabelKind::Classes(2),
    integration: Integration::Leaf,
    adapters: false,
};

/// A difference of some labelled samples, of which some are scored.
pub fn difference(labelled: i64, scores: &[(bool, f32)]) -> TaskDifference {
    let mut difference = TaskDifference {
        labelled: labelled + scores.len() as i64,
        ..TaskDifference::default()
    };
    difference.moments.resize_with(2, Default::default);
    difference.moments[0].count_value(labelled as f32 * 0.37);
    if !scores.is_empty() {
        difference.confusion = vec![0; 4];
        difference.baselines = vec![Score::default()];
    }
    for (correct, probability) in scores {
        let score = Score::one(*correct, *probability);
        difference.score.add(&score);
        difference.baselines[0].add(&score);
        difference.confusion[usize::from(*correct)] += 1;
        difference.moments[1].count_value(*probability);
    }
    difference
}

/// A task of a number, spread over the workers.
pub fn task(number: u64) -> TaskId {
    TaskId(number)
}

/// What was read for an epoch.
pub fn intake(epoch: u64, records: u64) -> Intake {
    Intake {
        header: header(epoch, records, records as i64),
        records,
        samples: records,
        bootstrapped: 0,
        ended: false,
        dead_letters: Vec::new(),
        offsets: Default::default(),
        early_labels: Vec::new(),
        settled_labels: Vec::new(),
        edges: BTreeMap::new(),
    }
}

/// What comes out on one worker, which is the same on two and three.
pub fn on_any_number_of_workers<T: PartialEq + std::fmt::Debug>(of: impl Fn(usize) -> T) -> T {
    let one = of(1);
    for workers in 2..4 {
        assert_eq!(one, of(workers), "{workers} workers");
    }
    one
}
