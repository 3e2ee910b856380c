//! How fast the operators are: batches of 4096 rows with 17 features, over 50 and 10,000 tasks.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "../tests/operators/rows.rs"]
mod rows;

use std::hint::black_box;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ndarray::{ArrayView2, ArrayViewMut2};
use perennial_operators::algorithms::neighbours::Neighbours;
use perennial_operators::algorithms::pool::Adapters;
use perennial_operators::algorithms::retain::Reservoir;
use perennial_operators::flow::{DeployedModel, Labelled, LabelledEpoch, Predicted};
use perennial_operators::ingest::Allocator;
use perennial_operators::label::{Delay, Joiner, LabelTiming, RestoredRows};
use perennial_operators::learn::{statistics, summary};
use perennial_operators::predict::{Models, Predictor};
use perennial_operators::{
    Epoch, Failure, LabelKind, ModelId, RetainedSample, TaskDifference, TaskId, priority,
};
use rows::{FINEST, Row, batch, difference, header, levels, scored};
use timely::dataflow::operators::Probe;
use timely::dataflow::operators::probe::Handle;
use timely::dataflow::operators::vec::Input;

const ROWS: usize = 4096;
const FEATURES: usize = 17;
const TASKS: [u32; 2] = [50, 10_000];

/// Rows over a tree of two levels with about as many leaves as `tasks`.
fn rows(tasks: u32, seed: u64) -> Vec<Row> {
    let row = |at: usize| {
        let random = priority(seed * ROWS as u64 + at as u64);
        let task = (random % u64::from(tasks)) as u32;
        let feature = |column: usize| ((random >> column) % 1000) as f32 / 1000.0;
        Row {
            time: at as i64,
            attributes: vec![task % 10, task],
            features: (0..FEATURES).map(feature).collect(),
            label: (random >> 40 & 1) as f32,
        }
    };
    (0..ROWS).map(row).collect()
}

/// Does not look at anything.
struct Idle;

impl Models for Idle {
    fn load(&mut self, _: ModelId, _: &Arc<Vec<u8>>) -> Result<(), Failure> {
        Ok(())
    }
    fn unload(&mut self, _: ModelId) {}
    fn predict(
        &mut self,
        _: ModelId,
        features: ArrayView2<'_, f32>,
        _: ArrayViewMut2<'_, f32>,
    ) -> Result<(), Failure> {
        black_box(features);
        Ok(())
    }
}

fn labelled(scored: Rc<Predicted>) -> LabelledEpoch {
    let labels = scored.allocated.batch.labels.clone();
    let part = Labelled {
        rows: (0..labels.len() as u32).collect(),
        labels,
        predicted: scored,
    };
    LabelledEpoch {
        batches: vec![part],
    }
}

fn stateless(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("rows");
    group.throughput(Throughput::Elements(ROWS as u64));
    for tasks in TASKS {
        let id = |name: &str| BenchmarkId::new(name, tasks);
        let rows = rows(tasks, 1);
        let batch = batch(0, &rows);
        let mut allocator = Allocator::new(levels(2));
        group.bench_function(id("allocate"), |bencher| {
            bencher.iter_batched(
                || batch.clone(),
                |batch| allocator.allocate(header(1, 0, 0), batch),
                BatchSize::LargeInput,
            );
        });
        let allocated = Rc::new(allocator.allocate(header(1, 0, 0), batch.clone()));
        let mut predictor = Predictor::new(
            Idle,
            FINEST,
            Vec::new(),
            Adapters::default(),
            Neighbours::default(),
            None,
        );
        let deploy = |task| DeployedModel {
            model: ModelId { task, version: 1 },
            hash: String::new(),
            onnx: Arc::default(),
            evidence: 0.0,
            scale: None,
        };
        predictor.deploy(&deploy(TaskId::BASE)).unwrap();
        for group in &allocated.groups {
            predictor.deploy(&deploy(group.path.leaf().task)).unwrap();
        }
        group.bench_function(id("gather and scatter"), |bencher| {
            bencher.iter(|| predictor.predict(allocated.clone()).unwrap());
        });
        let epoch = labelled(scored(header(1, 0, 0), 0, &rows));
        group.bench_function(id("summarize"), |bencher| {
            bencher.iter(|| summary(&epoch, LabelKind::Classes(2)))
        });
        let mut first = 0;
        let candidate = |sequence| RetainedSample {
            sequence,
            time: 0,
            label: 0.0,
            features: vec![0.0; FEATURES],
            weight: 1.0,
        };
        let mut reservoir = Reservoir::default();
        group.bench_function(id("retain in one reservoir"), |bencher| {
            bencher.iter_batched(
                || {
                    first += ROWS as u64;
                    (first..first + ROWS as u64)
                        .map(candidate)
                        .collect::<Vec<_>>()
                },
                |candidates| reservoir.update(candidates, &[ROWS as u64], 500),
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

/// Joins one epoch after another; labels come 20,000 records late.
fn join(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("rows");
    group.throughput(Throughput::Elements(ROWS as u64));
    for tasks in TASKS {
        let template = scored(header(1, 0, 0), 0, &rows(tasks, 1));
        group.bench_function(BenchmarkId::new("join", tasks), |bencher| {
            bencher.iter_custom(|epochs| {
                let mut joiner = Joiner::restore(
                    LabelTiming::InSample(Delay::Records(20_000)),
                    RestoredRows::default(),
                )
                .unwrap();
                let mut spent = Duration::ZERO;
                for epoch in 0..epochs {
                    let mut next = (*template).clone();
                    let mut allocated = (*next.allocated).clone();
                    allocated.header = header(epoch, (epoch + 1) * ROWS as u64, 0);
                    allocated.batch.first = epoch * ROWS as u64;
                    next.allocated = Rc::new(allocated);
                    let next = Rc::new(next);
                    let start = Instant::now();
                    black_box(joiner.join(next).unwrap());
                    spent += start.elapsed();
                }
                spent
            });
        });
    }
    group.finish();
}

/// Joins epochs without samples while batches of one row wait, as they do on a slow live stream.
fn wait(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("epochs");
    group.throughput(Throughput::Elements(1));
    let second = 1_000_000;
    let timings = [
        (
            "records",
            LabelTiming::SeparateStream(Delay::Records(1_000_000)),
        ),
        (
            "seconds",
            LabelTiming::SeparateStream(Delay::Time(86_400 * second)),
        ),
        (
            "own labels",
            LabelTiming::InSample(Delay::Time(86_400 * second)),
        ),
    ];
    for (name, timing) in timings {
        for waiting in [1_000_u64, 100_000] {
            let id = BenchmarkId::new(format!("join, waiting for {name}"), waiting);
            let mut joiner = Joiner::restore(timing, RestoredRows::default()).unwrap();
            let row = Row {
                time: 0,
                attributes: vec![0, 0],
                features: vec![0.0; FEATURES],
                label: 0.0,
            };
            for epoch in 0..waiting {
                let one = scored(
                    header(epoch, epoch + 1, 0),
                    epoch,
                    std::slice::from_ref(&row),
                );
                joiner.join(one).unwrap();
            }
            let empty = scored(header(waiting, waiting, 0), waiting, &[]);
            group.bench_function(id, |bencher| {
                bencher.iter(|| black_box(joiner.join(empty.clone()).unwrap()));
            });
        }
    }
    group.finish();
}

/// The statistics' dataflow, epoch by epoch: each task moves in each epoch.
fn tables(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("tasks");
    for tasks in TASKS {
        group.throughput(Throughput::Elements(u64::from(tasks)));
        group.bench_function(BenchmarkId::new("statistics", tasks), |bencher| {
            bencher.iter_custom(|epochs| {
                timely::execute_directly(move |worker| {
                    let probe = Handle::new();
                    let mut input = worker.dataflow::<Epoch, _, _>(|scope| {
                        let (input, summaries) = scope.new_input::<(TaskId, Box<TaskDifference>)>();
                        let (views, effects) = statistics(summaries, 500, Vec::new());
                        views.probe_with(&probe);
                        effects.probe_with(&probe);
                        input
                    });
                    let mut moved = difference(0, &[(true, 0.9), (false, 0.2), (true, 0.6)]);
                    moved.moments.resize(FEATURES, moved.moments[1]);
                    let start = Instant::now();
                    for epoch in 0..epochs {
                        for task in 0..u64::from(tasks) {
                            input.send((TaskId(task), Box::new(moved.clone())));
                        }
                        input.advance_to(Epoch(epoch + 1));
                        worker.step_while(|| probe.less_than(&Epoch(epoch + 1)));
                    }
                    start.elapsed()
                })
            });
        });
    }
    group.finish();
    let mut group = criterion.benchmark_group("ids");
    group.throughput(Throughput::Elements(1));
    let values = [("city".to_string(), "athens".to_string())];
    group.bench_function("TaskId::child", |bencher| {
        bencher.iter(|| black_box(TaskId::BASE).child(black_box(&values)));
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(1200))
        .sample_size(10);
    targets = stateless, join, wait, tables
}
criterion_main!(benches);
