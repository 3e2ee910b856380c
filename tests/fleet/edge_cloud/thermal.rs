//! The real stream with its cities spread over three edges: they do as well as one pipeline that
//! sees all, and better than each alone.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use support::fleet::Fleet;
use support::thermal::{Vote, columns_and_tasks, stream, votes};

/// Cities are dealt to the edges in the order of their appearance.
const EDGES: [&str; 3] = ["first", "second", "third"];
/// Number of votes that edges get before they wait for the cloud's models.
const PART: usize = 1000;
/// Trains a task after 1000 of its votes.
const TRIGGERS: &str = "triggers: {when: ['new_samples >= 1000']}\n";

/// The parts of the config that are the same for all.
fn common_config() -> String {
    format!(
        "{}epoch: {{records: 8, tick_ms: 5}}\ntraining: {{min_samples: 200}}\n{TRIGGERS}",
        columns_and_tasks()
    )
}

/// Whether each vote was predicted right, by id.
fn right(predictions: &[Value], votes: &[Vote]) -> BTreeMap<String, bool> {
    let labels: BTreeMap<&str, &str> = votes
        .iter()
        .map(|vote| (vote.id.as_str(), vote.preference.as_str()))
        .collect();
    let right = predictions.iter().map(|prediction| {
        let id = prediction["id"].as_str().expect("an id");
        (id.to_string(), prediction["prediction"] == labels[id])
    });
    right.collect()
}

fn accuracy<'a>(right: impl Iterator<Item = &'a bool>) -> f64 {
    let all: Vec<&bool> = right.collect();
    all.iter().filter(|right| ***right).count() as f64 / all.len() as f64
}

/// The predictions of one pipeline that sees these votes only.
fn alone(fleet: &Fleet, name: &str, header: &str, votes: &[&Vote]) -> Vec<Value> {
    let mut text = format!("{header}\n");
    votes
        .iter()
        .for_each(|vote| text += &format!("{}\n", vote.line));
    fleet.bench.write(&format!("{name}.csv"), text);
    let config = format!(
        "name: {name}\nsource: {{path: {name}.csv}}\nbootstrap: {{share: 0.2}}\nlabels: {{delay: {{records: 1}}}}\n\
         predictions: {{path: {name}.jsonl}}\n{}",
        common_config()
    );
    fleet.bench.write(&format!("{name}.yaml"), config);
    support::ended(fleet.command(name, &[]).output()).success();
    fleet.bench.predictions(name)
}

#[test]
#[ignore = "it takes seven minutes: make edges"]
fn edges_together_equal_one_pipeline() {
    let Some(path) = stream() else { return };
    let (header, votes) = votes(&path);
    let fleet = Fleet::new("thermal", &EDGES);
    let bootstrap = votes.len() / 5;
    let common = common_config();
    fleet.cloud_config("live", bootstrap, &common);
    let of = |votes: &[Vote], edge: &str| -> Vec<(String, String, String)> {
        let of = votes
            .iter()
            .filter(|vote| EDGES[vote.city % EDGES.len()] == edge);
        of.map(Vote::messages).collect()
    };
    let mut given = BTreeMap::new();
    for edge in EDGES {
        let first = of(&votes[..bootstrap], edge);
        fleet.edge_config(edge, first.len(), "samples: raw", &common);
        fleet.produce_json(edge, &first);
        given.insert(edge, first.len());
    }
    let cloud = fleet.start("cloud");
    let edges = EDGES.map(|edge| fleet.start(edge));
    EDGES.iter().for_each(|edge| fleet.wait_for_knowledge(edge));
    for part in votes[bootstrap..].chunks(PART) {
        for edge in EDGES {
            let part = of(part, edge);
            fleet.produce_json(edge, &part);
            *given.entry(edge).or_default() += part.len();
        }
        for edge in EDGES {
            fleet.wait_for_answers(edge, given[edge]);
            fleet.wait_for_samples(edge, given[edge]);
        }
        EDGES.iter().for_each(|edge| fleet.wait_for_knowledge(edge));
    }
    edges.into_iter().for_each(|edge| edge.stop());
    cloud.stop();

    let mut together = BTreeMap::new();
    for edge in EDGES {
        together.extend(right(&fleet.predictions(edge), &votes));
    }
    assert_eq!(together.len(), votes.len() - bootstrap);
    let everything: Vec<&Vote> = votes.iter().collect();
    let local = right(&alone(&fleet, "local", &header, &everything), &votes);
    let same: BTreeSet<&String> = local.keys().collect();
    assert_eq!(same, together.keys().collect());
    let (three, one) = (accuracy(together.values()), accuracy(local.values()));
    eprintln!("accuracy: three edges {three:.4}, one pipeline {one:.4}");
    assert!(three >= one - 0.01, "{three} {one}");
    for edge in EDGES {
        let is_own = |vote: &&Vote| EDGES[vote.city % EDGES.len()] == edge;
        let own: Vec<&Vote> = votes.iter().filter(is_own).collect();
        let name = format!("{edge}-alone");
        let alone = right(&self::alone(&fleet, &name, &header, &own), &votes);
        let both = alone
            .iter()
            .filter_map(|(id, right)| Some((*together.get(id)?, *right)));
        let (linked, alone): (Vec<bool>, Vec<bool>) = both.unzip();
        let (share, share_alone) = (accuracy(linked.iter()), accuracy(alone.iter()));
        let count = linked.len();
        eprintln!("accuracy: {edge} {share:.4}, alone {share_alone:.4}, of {count}");
        assert!(share >= share_alone, "{edge}");
    }
}
