//! Rows a second through one model on one thread, by the size of the batches that come in.
//!
//! `cargo bench -p perennial-connectors --bench onnx`, after `cargo build --release -p
//! perennial-trainer`. Sizes above the session's chunk measure the chunking.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ndarray::{Array2, s};
use perennial_connectors::onnx::Runtime;
use perennial_connectors::trainer::BuiltIn;
use perennial_operators::{LabelKind, TrainRequest, TreeParameters};

const ROWS: usize = 8192;
const FEATURES: usize = 17;
const CLASSES: usize = 3;
/// 150 trees: 50 for each class.
const ROUNDS: u32 = 50;
const DEPTH: u32 = 3;

/// Samples with a class that trees can learn in part.
fn request() -> TrainRequest {
    let mut state = 1_u64;
    let mut next = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    let features = Array2::from_shape_simple_fn((ROWS, FEATURES), &mut next);
    let label = |row: ndarray::ArrayView1<f32>| {
        let score = row[0] + row[5] * row[9] + 0.5 * row[16] + 0.7 * next();
        (score * 1.2).floor().clamp(0.0, 2.0)
    };
    let labels = features.rows().into_iter().map(label).collect();
    TrainRequest {
        features,
        labels,
        kind: LabelKind::Classes(CLASSES),
        weights: None,
        margins: None,
        parameters: TreeParameters {
            rounds: ROUNDS,
            max_depth: DEPTH,
            eta: 0.3,
            min_child_weight: 1.0,
            subsample: 1.0,
            colsample_bytree: 1.0,
            lambda: 1.0,
            seed: 0,
        },
    }
}

fn predict(criterion: &mut Criterion) {
    let runtime = Runtime::load().expect("ONNX Runtime, which scripts/setup.sh installs");
    let request = request();
    let trained = BuiltIn::find(runtime.clone())
        .expect("the trainer, built by cargo build --release -p perennial-trainer")
        .train(&request, None)
        .expect("a model");
    let mut session = runtime
        .session(&trained.onnx, FEATURES, CLASSES)
        .expect("a session");
    let mut probabilities = Array2::zeros((ROWS, CLASSES));
    let mut group = criterion.benchmark_group("predict");
    for batch in [1, 16, 32, 48, 64, 80, 128, 256, 512, 1024] {
        group.throughput(Throughput::Elements(batch as u64));
        group.bench_function(BenchmarkId::from_parameter(batch), |bencher| {
            // Other rows each time: a processor learns the ways through the trees by heart.
            let mut from = 0;
            bencher.iter(|| {
                from = if from + 2 * batch > ROWS {
                    0
                } else {
                    from + batch
                };
                let rows = request.features.slice(s![from..from + batch, ..]);
                let room = probabilities.slice_mut(s![..batch, ..]);
                session
                    .predict(black_box(rows), room)
                    .expect("probabilities");
            });
        });
    }
    group.finish();
}

criterion_group!(benches, predict);
criterion_main!(benches);
