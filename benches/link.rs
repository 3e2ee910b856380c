//! Cost of the link: bytes that cross it for a thousand samples, by policy, against shipping every
//! sample as it is.
//!
//! The thermal votes of one stretch of the stream, given to five edges of one cloud, each with
//! another policy, 250 at a time.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use support::fleet::{Fleet, Running};
use support::thermal::{Vote, columns_and_tasks, stream, votes};

const EDGES: [&str; 5] = ["none", "statistics", "models", "redacted", "raw"];
const BOOTSTRAP: usize = 2000;
const VOTES: usize = 2500;
/// Votes at a time.
const PART: usize = 250;

fn main() {
    let Some(path) = stream() else { return };
    let (_, votes) = votes(&path);
    let votes = &votes[..BOOTSTRAP + VOTES];
    let fleet = Fleet::new("cost", &EDGES);
    fleet.make_topics();
    let common = format!("{}epoch: {{records: 50}}\n", columns_and_tasks());
    let triggers = "triggers: {when: ['new_samples >= 1000']}\n";
    fleet.cloud_config("live", BOOTSTRAP, &format!("{common}{triggers}"));
    let policies = [
        ("none", 0, "", ""),
        ("statistics", 0, "statistics: true", ""),
        ("models", BOOTSTRAP, "models: true", triggers),
        (
            "redacted",
            BOOTSTRAP,
            "samples: redacted, redact: [age, ht, wt, gender], pseudonyms: [id, site], secret: secret",
            "",
        ),
        ("raw", BOOTSTRAP, "samples: raw", ""),
    ];
    let messages = |votes: &[Vote]| votes.iter().map(Vote::messages).collect::<Vec<_>>();
    for (edge, bootstrap, policy, more) in policies {
        fleet.edge_config(edge, bootstrap, policy, &format!("{common}{more}"));
        if edge == "models" {
            fleet.set(edge, "train: true");
        }
        fleet.produce_json(edge, &messages(&votes[..BOOTSTRAP]));
    }
    let cloud = fleet.start("cloud");
    let edges = EDGES.map(|edge| fleet.start(edge));
    for (edge, ..) in policies {
        fleet.wait_for_answers(edge, BOOTSTRAP);
    }
    let sizes = || {
        let size = |topic: &str| -> Vec<(String, usize)> {
            let read = fleet.cloud.read(topic).into_iter();
            let key = |key: Option<Vec<u8>>| String::from_utf8(key.unwrap_or_default());
            read.map(|read| (key(read.key).expect("a key"), read.value.len()))
                .collect()
        };
        (size(&fleet.changes()), size(&fleet.knowledge()))
    };
    let sum = |sizes: &[(String, usize)], edge: &str| -> usize {
        let of = sizes
            .iter()
            .filter(|(key, _)| edge.is_empty() || key == edge);
        of.map(|(_, size)| size).sum()
    };
    let before = sizes();
    for part in votes[BOOTSTRAP..].chunks(PART) {
        EDGES
            .iter()
            .for_each(|edge| fleet.produce_json(edge, &messages(part)));
    }
    for edge in EDGES {
        fleet.wait_for_answers(edge, BOOTSTRAP + VOTES);
        fleet.wait_until("all has arrived", || {
            fleet.status(edge)["outbox"]["waiting"] == 0
        });
    }
    edges.into_iter().for_each(Running::stop);
    cloud.stop();
    let after = sizes();
    let thousands = VOTES as f64 / 1000.0;
    // As JSON, each with its label, which is what a broker at the site holds; and the same as Kafka
    // compresses it.
    let shipped: Vec<String> = votes[BOOTSTRAP..]
        .iter()
        .map(|vote| {
            let (_, sample, label) = vote.messages();
            format!("{sample}{label}")
        })
        .collect();
    let all: usize = shipped.iter().map(String::len).sum();
    let compressed: usize = shipped
        .chunks(PART)
        .map(|part| {
            let bytes = part.concat();
            zstd::bulk::compress(bytes.as_bytes(), 0)
                .expect("bytes")
                .len()
        })
        .sum();
    let down = sum(&after.1, "") - sum(&before.1, "");
    println!(
        "bytes for 1,000 samples; every sample as JSON: {:.0}",
        all as f64 / thousands
    );
    println!("{:<12} {:>10} {:>14}", "policy", "up", "of all as JSON");
    let line = |name: &str, bytes: usize| {
        let share = bytes as f64 / all as f64;
        println!(
            "{name:<12} {:>10.0} {share:>14.4}",
            bytes as f64 / thousands
        );
    };
    for edge in EDGES {
        line(edge, sum(&after.0, edge) - sum(&before.0, edge));
    }
    line("JSON, zstd", compressed);
    line("down", down);
    println!(
        "{} messages down, of tasks and models, the same for every policy",
        after.1.len() - before.1.len()
    );
}
