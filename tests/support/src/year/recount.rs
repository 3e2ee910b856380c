//! The recount of the year: outputs and knowledge of all against the books of what was sent.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Seek};

use serde_json::Value;

use super::Year;
use super::config::{BOOTSTRAP, EDGES, FILES, topic};
use super::events::files::Output;
use super::feed::Books;
use super::members::names;
use crate::fleet::Fleet;
use crate::stream::Sample;
use crate::{json, lines};

/// The number of labelled samples of each task; none if the state cannot be read.
fn labelled(fleet: &Fleet, state: &str) -> Option<BTreeMap<String, u64>> {
    let ended = fleet
        .bench
        .run(&["kb", "--state", state, "--json", "tasks"]);
    if ended.status != Some(0) {
        return None;
    }
    let tasks = json(ended.stdout.as_bytes());
    let entry = |task: &Value| {
        let name = task["task"].as_str().expect("a name").to_string();
        let count = task["labelled"].as_u64().expect("a count");
        (name, count)
    };
    Some(tasks.as_array().expect("tasks").iter().map(entry).collect())
}

/// The number of labelled samples at an edge.
pub fn labelled_at(fleet: &Fleet, edge: &str) -> Option<usize> {
    let labelled = labelled(fleet, edge)?;
    Some(labelled.get("base").copied().unwrap_or(0) as usize)
}

impl Books {
    /// The number of samples with a label.
    pub fn labelled(&self) -> usize {
        let samples = self.samples.values();
        samples.filter(|sample| sample.label.is_some()).count()
    }

    /// The number of samples that the cloud gets.
    pub fn shared(&self) -> usize {
        self.known().count()
    }

    fn known(&self) -> impl Iterator<Item = &Sample> {
        let samples = self.samples.values();
        samples.filter(|it| it.label.is_some() && !self.lost.contains(&it.id))
    }
}

/// Counts samples by the names of their tasks.
fn by_task<'a>(samples: impl Iterator<Item = &'a Sample>) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for sample in samples {
        let season = format!("season={}", sample.season);
        for task in ["base".to_string(), season, sample.task()] {
            *counts.entry(task).or_default() += 1;
        }
    }
    counts
}

/// The lines of a file output, of files that were moved or removed too.
fn file_lines(year: &Year, output: Output) -> Vec<Value> {
    let mut all = Vec::new();
    for (of, file) in &year.archive.files {
        if *of == output {
            let mut file = file.try_clone().expect("a file");
            file.rewind().expect("a file");
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).expect("a file");
            all.extend(lines(&bytes));
        }
    }
    if year.fleet.bench.path(output.path()).exists() {
        all.extend(lines(&year.fleet.bench.read(output.path())));
    }
    all
}

/// The predictions of an edge.
fn predictions(year: &Year, edge: &str) -> Vec<Value> {
    if edge == FILES {
        return file_lines(year, Output::Predictions);
    }
    let read = year.fleet.cloud.read(&topic(edge, "predictions"));
    read.iter().map(|read| json(&read.value)).collect()
}

/// The marks of the dead letters of an edge.
fn letters(year: &Year, edge: &str) -> Vec<String> {
    if edge == FILES {
        let letters = file_lines(year, Output::DeadLetters);
        let mark = |letter: Value| {
            let text = letter["content"].to_string();
            let at = text.find("poison-").unwrap_or_else(|| panic!("{letter}"));
            let end = text[at..].find('.').unwrap_or_else(|| panic!("{letter}"));
            text[at..=at + end].to_string()
        };
        return letters.into_iter().map(mark).collect();
    }
    let read = year.fleet.cloud.read(&topic(edge, "dead-letters"));
    let mark = |letter: &crate::kafka::Read| {
        let reason = &letter.headers["perennial.reason"];
        let key = letter.key.clone().unwrap_or_else(|| panic!("{reason}"));
        String::from_utf8(key).expect("text")
    };
    read.iter().map(mark).collect()
}

fn check_edge(year: &Year, edge: &str) -> (usize, usize) {
    let books = year.feed.of(edge);
    let mut seen = BTreeSet::new();
    for prediction in predictions(year, edge) {
        let id = prediction["id"].as_str().expect("an id");
        assert!(seen.insert(id.to_string()), "{id} is predicted twice");
        assert!(!books.gone.contains(id), "{id} was deleted: {prediction}");
        let sample = books.samples.get(id);
        let sample = sample.unwrap_or_else(|| panic!("{id} was never sent: {prediction}"));
        assert_eq!(prediction["task"], sample.task().as_str(), "{prediction}");
        let probabilities = prediction["probabilities"].as_object().expect("a map");
        let sum: f64 = probabilities.values().filter_map(Value::as_f64).sum();
        assert!((sum - 1.0).abs() < 0.01, "{prediction}");
    }
    assert_eq!(
        seen.len() + BOOTSTRAP,
        books.samples.len(),
        "{edge}: predictions and the bootstrap, and samples that were sent"
    );
    let letters = letters(year, edge);
    let marks: BTreeSet<String> = letters.iter().cloned().collect();
    assert_eq!(letters.len(), marks.len(), "{edge}: a dead letter is twice");
    assert_eq!(marks, books.bad, "{edge}: dead letters");
    let mut counted = labelled(&year.fleet, edge).expect("tasks");
    counted.retain(|_, count| *count > 0);
    let of_labelled = books.samples.values().filter(|it| it.label.is_some());
    assert_eq!(counted, by_task(of_labelled), "{edge}: labels by task");
    let report = year.fleet.bench.report(edge);
    assert_eq!(report["predicted"], seen.len(), "{edge}: {report}");
    assert_eq!(report["dead_letters"], letters.len(), "{edge}: {report}");
    (seen.len(), letters.len())
}

fn check_cloud(year: &Year) {
    let found = labelled(&year.fleet, "cloud").expect("tasks");
    let status = year.fleet.status("cloud");
    for edge in EDGES {
        let books = year.feed.of(edge);
        let repeated = status["edges"][edge]["repeated"].as_u64().expect("a count");
        if !year.backups.was_restored(edge) {
            assert_eq!(repeated, 0, "{edge}: {status}");
        }
        let mut expected = by_task(books.known());
        expected.retain(|task, _| task.contains("site="));
        for (task, count) in expected {
            let found = found.get(&task).copied().unwrap_or(0);
            assert!(
                (count..=count + repeated).contains(&found),
                "the cloud has {found} labels of {task}, sent were {count}, repeated {repeated}"
            );
        }
    }
    let letters = year.fleet.bench.dead_letters("cloud");
    let mut strangers = BTreeSet::new();
    for letter in &letters {
        let reason = letter["reason"].as_str().expect("a reason");
        match reason.split('"').nth(1) {
            Some(name) if reason.contains("is not known") => {
                assert!(strangers.insert(name.to_string()), "twice: {letter}");
            }
            // What a restored edge shares again.
            _ => assert!(reason.contains("was seen before"), "{letter}"),
        }
    }
    assert_eq!(strangers, year.hostile.strangers, "unknown names");
    let models = year.fleet.bench.kb_json("cloud", &["models"]);
    for model in models.as_array().expect("models") {
        // An honest edge's versions are far greater.
        let adopted = &model["trained"]["remodeling"]["adopted"]["model"]["version"];
        assert!(*adopted != 1 || model["answers"] == false, "{model}");
    }
}

/// Asserts that outputs and knowledge of all are as the books say; returns the counts.
pub fn check(year: &Year) -> String {
    let mut said = format!("{} events", year.events);
    for edge in EDGES {
        let (predictions, letters) = check_edge(year, edge);
        said += &format!("; {edge}: {predictions} predictions, {letters} dead letters");
    }
    check_cloud(year);
    for name in names() {
        year.fleet.assert_sound(name);
        let log = year.fleet.log(name);
        assert!(!log.contains("panicked"), "{name}: {log}");
        let models = year.fleet.bench.kb_json(name, &["models"]);
        let models = models.as_array().expect("models").len();
        said += &format!("; {name}: {models} models");
    }
    said
}
