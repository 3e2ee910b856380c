//! Cost of a sample in the cloud's merge of edges, by the number of edges: with a thousand edges it
//! should be that of ten.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::time::Instant;

use ed25519_dalek::SigningKey;
use perennial::config::{Settings, load};
use perennial_connectors::link::{Change, Changes};
use perennial_connectors::source::edges::{
    EdgeMerge, EdgeRights, EdgesResume, KnownEdges, SignedChanges,
};
use perennial_operators::{Epoch, SharedSamples, SharedTexts};
use support::stream::SCHEMA;

/// Samples of all edges.
const SAMPLES: usize = 200_000;
/// Samples of a change.
const ROWS: usize = 20;

fn settings() -> Settings {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("edge.yaml");
    let config =
        format!("name: any\nsource: {{path: none.csv}}\nbootstrap: {{records: 10}}\n{SCHEMA}");
    std::fs::write(&file, config).expect("a config");
    Settings::try_from(load(&file, &[]).expect("a config")).expect("settings")
}

/// Change `number` of an edge; the samples of all edges alternate.
fn change(edge: usize, edges: usize, number: usize) -> Change {
    let rows = || number * ROWS..(number + 1) * ROWS;
    let text = |text: &str| {
        Some(SharedTexts {
            values: vec![text.into()],
            codes: vec![0; ROWS],
        })
    };
    let column = || Some(rows().map(|row| row as f32).collect());
    Change {
        epoch: Epoch(number as u64),
        samples: vec![SharedSamples {
            sequences: rows().map(|row| row as u64).collect(),
            times: rows().map(|row| (row * edges + edge) as i64).collect(),
            ids: None,
            attributes: vec![text("hall"), text("dry")],
            features: vec![column(), column(), None, None],
            labels: vec![1.0; ROWS],
        }],
        ..Change::default()
    }
}

/// Nanoseconds a sample with this many edges.
fn cost(settings: &Settings, edges: usize) -> f64 {
    let key = SigningKey::from_bytes(&[1; 32]).verifying_key();
    let names: Vec<String> = (0..edges).map(|edge| format!("edge-{edge:04}")).collect();
    let rights = names
        .iter()
        .map(|name| (name.clone(), EdgeRights::all(key)));
    let listening = KnownEdges {
        edges: rights.collect(),
        schema: String::new(),
        in_order: true,
    };
    let resume = EdgesResume::default();
    let mut merge = EdgeMerge::new(listening, &settings.schema, 0, &resume);
    for (edge, name) in names.iter().enumerate() {
        for number in 0..SAMPLES / edges / ROWS {
            let changes = Changes {
                edge: name.clone(),
                since: 1,
                schema: String::new(),
                sent: 1,
                shed: 0,
                changes: vec![(number as u64, change(edge, edges, number))],
                lineage: None,
            };
            let message = SignedChanges {
                changes,
                refused: Vec::new(),
                signer: key,
            };
            merge
                .push(message, 1, 0, (number * edges + edge) as i64)
                .expect("a good message");
        }
    }
    let (began, mut taken) = (Instant::now(), 0);
    while let Some(sample) = merge.take_sample() {
        sample.expect("a good sample");
        taken += 1;
        if taken % 4096 == 0 {
            merge.take();
        }
    }
    // All but those that wait for edges that have no more.
    assert!(taken > SAMPLES - 2 * edges, "{taken}");
    began.elapsed().as_nanos() as f64 / taken as f64
}

fn main() {
    let settings = settings();
    let few = cost(&settings, 10);
    println!("{:>6} edges: {few:>8.0} ns a sample", 10);
    for edges in [100, 1000] {
        let cost = cost(&settings, edges);
        println!(
            "{edges:>6} edges: {cost:>8.0} ns a sample, {:.2} times that of 10",
            cost / few
        );
    }
}
