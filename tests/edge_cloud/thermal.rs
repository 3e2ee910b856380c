//! The real stream, its cities shared out over three edges: they do as well as one pipeline that sees all, and better than each
//! alone.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use serde_json::{Value, json};

use crate::common;
use crate::common::thermal::stream;
use crate::fleet::Fleet;

const EDGES: [&str; 3] = ["first", "second", "third"];
/// Votes that edges get at a time, before the cloud has learned from those before.
const PART: usize = 4000;
/// How often models are trained, in votes of a task.
const TRIGGERS: &str = "triggers: {when: ['new_samples >= 2000']}\n";

/// A vote as it stands in the file.
struct Vote {
    id: String,
    edge: &'static str,
    line: String,
    fields: Value,
    preference: String,
}

/// All votes, and the header of the file. Cities go round over the edges in the order in which they appear.
fn votes(path: &std::path::Path) -> (String, Vec<Vote>) {
    let bytes = std::fs::read(path).expect("the stream");
    let mut text = String::new();
    let mut decoder = flate2::read::GzDecoder::new(&bytes[..]);
    decoder.read_to_string(&mut text).expect("text");
    let mut lines = text.lines();
    let header = lines.next().expect("a header").to_string();
    let names: Vec<&str> = header.split(',').collect();
    let mut cities: Vec<String> = Vec::new();
    let votes = lines.map(|line| {
        let values: Vec<&str> = line.split(',').collect();
        assert_eq!(values.len(), names.len(), "{line}");
        let of = |name: &str| {
            let place = names.iter().position(|known| *known == name);
            values[place.expect("a column")].to_string()
        };
        let city = of("city");
        let place = cities.iter().position(|known| *known == city);
        let place = place.unwrap_or_else(|| {
            cities.push(city);
            cities.len() - 1
        });
        let fields = names.iter().zip(&values);
        let fields = fields.filter(|(name, value)| **name != "preference" && !value.is_empty());
        Vote {
            id: of("id"),
            edge: EDGES[place % EDGES.len()],
            line: line.to_string(),
            fields: fields.map(|(name, value)| (name.to_string(), json!(value))).collect(),
            preference: of("preference"),
        }
    });
    (header.clone(), votes.collect())
}

/// What is the same for all: the columns, the tasks, and how models are trained.
fn common_config() -> String {
    let config = std::fs::read_to_string(common::checkout("configs/thermal.yaml"));
    let config = config.expect("the config");
    let start = config.find("schema:").expect("a schema");
    let end = config.find("bootstrap:").expect("a bootstrap");
    format!(
        "{}epoch: {{records: 8, tick_ms: 20}}\ntraining: {{min_samples: 200}}\n{TRIGGERS}",
        &config[start..end]
    )
}

/// Which votes were answered right.
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

/// What one pipeline answers that sees these votes alone.
fn alone(fleet: &Fleet, name: &str, header: &str, votes: &[&Vote]) -> Vec<Value> {
    let mut text = format!("{header}\n");
    votes.iter().for_each(|vote| text += &format!("{}\n", vote.line));
    fleet.bench.write(&format!("{name}.csv"), text);
    let config = format!(
        "name: {name}\nsource: {{path: {name}.csv}}\nbootstrap: {{share: 0.2}}\nlabels: {{delay: {{records: 1}}}}\n\
         predictions: {{path: {name}.jsonl}}\n{}",
        common_config()
    );
    fleet.bench.write(&format!("{name}.yaml"), config);
    common::ended(fleet.command(name, &[]).output()).success();
    fleet.bench.predictions(name)
}

#[test]
fn edges_do_as_well_together_as_one_that_sees_all() {
    let Some(path) = stream() else { return };
    let (header, votes) = votes(&path);
    let fleet = Fleet::new("thermal", &EDGES);
    let bootstrap = votes.len() / 5;
    let common = common_config();
    fleet.cloud_config("live", bootstrap, &common);
    let of = |votes: &[Vote], edge: &str| -> Vec<(String, String, String)> {
        let of = votes.iter().filter(|vote| vote.edge == edge);
        of.map(|vote| {
            let label = json!({"id": vote.id, "preference": vote.preference});
            (vote.id.clone(), vote.fields.to_string(), label.to_string())
        })
        .collect()
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
    let all: Vec<&Vote> = votes.iter().collect();
    let local = right(&alone(&fleet, "local", &header, &all), &votes);
    let same: BTreeSet<&String> = local.keys().collect();
    assert_eq!(same, together.keys().collect());
    let (three, one) = (accuracy(together.values()), accuracy(local.values()));
    eprintln!("accuracy: three edges {three:.4}, one pipeline {one:.4}");
    assert!(three >= one - 0.01, "{three} {one}");
    for edge in EDGES {
        let own: Vec<&Vote> = votes.iter().filter(|vote| vote.edge == edge).collect();
        let alone = right(&alone(&fleet, &format!("{edge}-alone"), &header, &own), &votes);
        let both: Vec<(&bool, &bool)> = alone
            .iter()
            .filter_map(|(id, right)| Some((together.get(id)?, right)))
            .collect();
        let linked = accuracy(both.iter().map(|(linked, _)| *linked));
        let alone = accuracy(both.iter().map(|(_, alone)| *alone));
        eprintln!("accuracy: {edge} {linked:.4}, alone {alone:.4}, of {}", both.len());
        assert!(linked >= alone, "{edge}: {linked} {alone}");
    }
}
