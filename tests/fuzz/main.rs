//! Fuzzing: whatever comes in from outside, no decoder panics, hangs, or takes unbounded memory.
//!
//! Each target gives mutated valid inputs to one decoder, in a process of its own, and each input
//! follows from the seed and its number. A finding prints both: `PERENNIAL_FUZZ_SEED=…
//! PERENNIAL_FUZZ_INPUT=… cargo test --release --test fuzz -- --exact TARGET` repeats it.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod avro;
mod config;
mod files;
mod harness;
mod link;
mod memory;
mod models;
mod mutate;
mod trainers;

use harness::{Memory, Target};

/// A test for each target. `inputs` are run in CI, a second or two; `cost` is how many times more
/// an input takes than the quickest.
macro_rules! targets {
    ($($name:ident: $subject:expr, inputs: $inputs:expr, cost: $cost:expr, memory: $memory:expr;)*) => {
        $(#[test]
        fn $name() {
            harness::fuzz(&Target {
                name: stringify!($name),
                subject: $subject,
                inputs: $inputs,
                cost: $cost,
                memory: $memory,
            });
        })*
    };
}

targets! {
    csv: files::csv, inputs: 20_000, cost: 1, memory: Memory::new(64, 16 << 20);
    csv_gzip: files::csv_gzip, inputs: 10_000, cost: 1, memory: Memory::new(64, 16 << 20);
    json_lines: files::json_lines, inputs: 20_000, cost: 1, memory: Memory::new(64, 16 << 20);
    // The library takes the size that a page claims, up to 2 GiB, before it decompresses.
    parquet: files::parquet, inputs: 5_000, cost: 1, memory: Memory::new(64, 3 << 30);
    labels: files::labels, inputs: 20_000, cost: 1, memory: Memory::new(64, 16 << 20);
    avro_message: avro::message, inputs: 50_000, cost: 1, memory: Memory::new(64, 1 << 20);
    avro_schema: avro::schema, inputs: 20_000, cost: 1, memory: Memory::new(500, 1 << 20);
    avro_registry: avro::registry, inputs: 1_000, cost: 20, memory: Memory::new(500, 4 << 20);
    edge_changes: link::changes, inputs: 10_000, cost: 1, memory: Memory::new(500, 8 << 20);
    cloud_tasks: link::published, inputs: 10_000, cost: 1, memory: Memory::new(500, 8 << 20);
    tree_model: models::trees, inputs: 20_000, cost: 1, memory: Memory::new(200, 1 << 20);
    any_model: models::any, inputs: 2_000, cost: 10, memory: Memory::of_process(64 << 20);
    booster: trainers::booster, inputs: 20_000, cost: 1, memory: Memory::new(200, 1 << 20);
    trainer_answer: trainers::answer, inputs: 200, cost: 500, memory: Memory::new(200, 4 << 20);
    command_answer: trainers::command, inputs: 200, cost: 500, memory: Memory::new(200, 4 << 20);
    config: config::config, inputs: 5_000, cost: 1, memory: Memory::new(2_000, 8 << 20);
}
