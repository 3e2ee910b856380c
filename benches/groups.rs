//! Unseen tasks on simulated fleets: how long until they are known, against sending them silently
//! to task 0; what labels that are asked for bring, against all and against as many at random; and
//! what values made up cost those who are known.
//!
//! `make bench BENCH=groups`

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use common::{Result, Spread, mib, per_second, run};
use perennial_connectors::format::Row;
use perennial_connectors::source::simulator::open_rows;
use perennial_connectors::source::{Drift, DriftKind, Next, SimulatorConfig};
use perennial_operators::priority;
use serde_json::Value;

/// Samples, and those of the bootstrap.
const RECORDS: u64 = 60_000;
const BOOTSTRAP: usize = 6_000;
/// Of the samples of unseen tasks, so many have labels that are asked for.
const SHARE: f64 = 0.2;
/// Seeds; how labels are asked for was chosen on the first ten, and is measured on others.
const SEEDS: std::ops::RangeInclusive<u64> = 1..=10;
const FRESH_SEEDS: std::ops::RangeInclusive<u64> = 11..=20;
/// Samples over which an accuracy is measured while it changes, and at the end.
const WINDOW: usize = 200;
const LAST: usize = 1000;
/// Seconds from one sample to the next.
const PACE: f64 = 30.0;

/// No drift.
const STILL: Drift = Drift {
    every: 100_000,
    strength: 0.0,
    kind: DriftKind::Mixed,
};

/// A stream as rows of text.
struct Stream {
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
}

/// A fleet of which half of the contexts come late.
fn fleet(seed: u64) -> Result<Stream> {
    let config = SimulatorConfig {
        seed,
        records: Some(RECORDS),
        sites: 20,
        contexts: 6,
        late_sites: 0.5,
        late_after: Some(BOOTSTRAP as u64),
        drift: STILL,
        interval_us: (PACE * 1e6) as u64,
        ..SimulatorConfig::default()
    };
    let schema = config.schema();
    let columns: Vec<String> = schema.columns().into_iter().map(str::to_string).collect();
    let mut source = open_rows(config, &columns)?;
    let mut row = Row::new(columns.len());
    let (mut rows, mut scratch) = (Vec::new(), String::new());
    while source.next(&mut row)? == Next::Record {
        let cells = (0..columns.len()).map(|cell| row.get(cell).text(&mut scratch).to_string());
        rows.push(cells.collect());
    }
    Ok(Stream { columns, rows })
}

impl Stream {
    fn column(&self, name: &str) -> Result<usize> {
        let found = self.columns.iter().position(|column| column == name);
        Ok(found.ok_or_else(|| format!("there is no column {name}"))?)
    }

    /// The context of each row.
    fn contexts(&self) -> Result<Vec<(String, String)>> {
        let (season, zone) = (self.column("season")?, self.column("zone")?);
        let context = |row: &Vec<String>| (row[season].clone(), row[zone].clone());
        Ok(self.rows.iter().map(context).collect())
    }

    fn write(&self, folder: &Path) -> Result<()> {
        let mut text = self.columns.join(",") + "\n";
        for row in &self.rows {
            writeln!(text, "{}", row.join(","))?;
        }
        Ok(std::fs::write(folder.join("stream.csv"), text)?)
    }
}

/// Answers, and whether each sample was taken for unseen.
struct Answers {
    right: Vec<bool>,
    unseen: Vec<bool>,
    /// Labels that became known.
    labelled: u64,
}

/// Runs a stream, and compares what is answered with these labels.
fn answers(stream: &Stream, truth: &[String], more: &str) -> Result<Answers> {
    let folder = tempfile::tempdir()?;
    stream.write(folder.path())?;
    let config = folder.path().join("config.yaml");
    let features: Vec<&String> = stream
        .columns
        .iter()
        .filter(|name| is_sensor(name))
        .collect();
    let features = features
        .iter()
        .map(|name| name.as_str())
        .collect::<Vec<_>>();
    let text = format!(
        "name: groups
source: {{path: stream.csv}}
schema:
  id: id
  time: time
  site: site
  attributes: [season, zone]
  features: [{}]
  label: {{column: label, classes: [c0, c1, c2]}}
tasks: {{path: [[season, zone]]}}
bootstrap: {{records: {BOOTSTRAP}}}
epoch: {{records: 64}}
training: {{min_samples: 100, trees: {{rounds: 30, max_depth: 4}}, candidates: [scratch]}}
triggers: {{when: ['new_samples >= 300']}}
predictions: {{path: predictions.jsonl}}
{more}",
        features.join(", ")
    );
    std::fs::write(&config, text)?;
    let (report, _) = run(folder.path(), &config, &[])?;
    let mut answers = Answers {
        right: Vec::new(),
        unseen: Vec::new(),
        labelled: report["labelled"].as_u64().unwrap_or(0),
    };
    let lines = BufReader::new(File::open(folder.path().join("predictions.jsonl"))?).lines();
    for (line, truth) in lines.zip(&truth[BOOTSTRAP..]) {
        let line: Value = serde_json::from_str(&line?)?;
        answers.right.push(line["prediction"] == truth.as_str());
        answers.unseen.push(line["unseen"] == true);
    }
    Ok(answers)
}

fn is_sensor(name: &str) -> bool {
    name.strip_prefix('s')
        .is_some_and(|rest| rest.parse::<u32>().is_ok())
}

fn share(of: impl Iterator<Item = bool>) -> f64 {
    let (mut count, mut right) = (0, 0);
    for one in of {
        count += 1;
        right += usize::from(one);
    }
    right as f64 / f64::from(count.max(1))
}

/// Samples of one new context until something holds.
#[derive(Default)]
struct Times {
    recognized: Vec<f64>,
    known: Vec<f64>,
    good: Vec<f64>,
    last: Vec<f64>,
}

impl Times {
    /// Adds those of one context, of whose samples these were right, and these taken for unseen.
    fn add(&mut self, right: &[bool], unseen: &[bool]) {
        let last = share(right[right.len().saturating_sub(LAST)..].iter().copied());
        let good = right
            .windows(WINDOW)
            .position(|window| share(window.iter().copied()) >= 0.95 * last);
        self.good
            .push(good.map_or(right.len(), |at| at + WINDOW) as f64);
        self.last.push(last);
        let recognized = unseen.iter().position(|unseen| *unseen);
        self.recognized.extend(recognized.map(|at| at as f64));
        // From then on what is strange is so by its features, now and then.
        let known = unseen
            .windows(20)
            .position(|window| window.iter().filter(|one| **one).count() <= 2);
        self.known
            .extend(known.filter(|_| recognized.is_some()).map(|at| at as f64));
    }

    fn row(&self, name: &str) -> Vec<String> {
        let middle = |of: &[f64]| {
            if of.is_empty() {
                "never".to_string()
            } else {
                let spread = Spread::of(of, |one| *one);
                format!("{:.0}", spread.middle)
            }
        };
        let mean = self.last.iter().sum::<f64>() / self.last.len().max(1) as f64;
        vec![
            name.to_string(),
            middle(&self.recognized),
            middle(&self.known),
            middle(&self.good),
            format!("{mean:.3}"),
        ]
    }
}

/// The contexts that the bootstrap has not.
fn late(contexts: &[(String, String)]) -> BTreeSet<(String, String)> {
    let early: BTreeSet<_> = contexts[..BOOTSTRAP].iter().collect();
    let late = contexts.iter().filter(|context| !early.contains(context));
    late.cloned().collect()
}

fn labels(stream: &Stream) -> Result<Vec<String>> {
    let column = stream.column("label")?;
    Ok(stream.rows.iter().map(|row| row[column].clone()).collect())
}

/// Prints how many samples of a new context come until it is known, and until it is answered well.
fn time_to_known() -> Result<()> {
    let (mut perennial, mut task_0) = (Times::default(), Times::default());
    for seed in SEEDS {
        let mut stream = fleet(seed)?;
        let (truth, contexts) = (labels(&stream)?, stream.contexts()?);
        let late = late(&contexts);
        let known = answers(&stream, &truth, "unseen: {}\n")?;
        // Unknown attributes are those of the first task, as Sedna's allocation by attributes has
        // it.
        let (season, zone) = (stream.column("season")?, stream.column("zone")?);
        let first = contexts[0].clone();
        for (row, context) in stream.rows.iter_mut().zip(&contexts) {
            if late.contains(context) {
                (row[season], row[zone]) = first.clone();
            }
        }
        let silent = "inference: {integration: leaf, adapters: false}\n";
        let silent = answers(&stream, &truth, silent)?;
        for context in &late {
            for (times, answers) in [(&mut perennial, &known), (&mut task_0, &silent)] {
                let of = contexts[BOOTSTRAP..].iter().enumerate();
                let of: Vec<usize> = of
                    .filter(|(_, one)| *one == context)
                    .map(|(at, _)| at)
                    .collect();
                let pick = |from: &[bool]| of.iter().map(|at| from[*at]).collect::<Vec<bool>>();
                times.add(&pick(&answers.right), &pick(&answers.unseen));
            }
        }
    }
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header([
        "samples of a new context until",
        "recognized",
        "known",
        "95 % of its last accuracy",
        "last accuracy",
    ]);
    table.add_row(perennial.row("Perennial"));
    table.add_row(task_0.row("silently task 0"));
    println!("{table}");
    Ok(())
}

/// Prints what the labels bring that are asked for.
fn economy() -> Result<()> {
    let mut rounds: Vec<BTreeMap<&str, f64>> = Vec::new();
    for seed in FRESH_SEEDS {
        let mut stream = fleet(seed)?;
        // Behind the bootstrap, only what is unseen.
        let contexts = stream.contexts()?;
        let late = late(&contexts);
        let mut number = 0;
        stream.rows.retain(|_| {
            number += 1;
            number <= BOOTSTRAP || late.contains(&contexts[number - 1])
        });
        let truth = labels(&stream)?;
        let samples = stream.rows.len() - BOOTSTRAP;
        let budget = SHARE * samples as f64;
        // What is asked for at once, and what comes while the stream goes on.
        let days = (RECORDS - BOOTSTRAP as u64) as f64 * PACE / 86_400.0;
        let per_day = (budget / (1.0 + days)).floor();
        let asks = format!(
            "unseen: {{}}\nlabels: {{on_request: true}}\nlabel_requests: {{per_day: {per_day}}}\n"
        );
        let asked = answers(&stream, &truth, &asks)?;
        let all = answers(&stream, &truth, "unseen: {}\n")?;
        let column = stream.column("label")?;
        let mut blank = |keeps: &dyn Fn(u64) -> bool| {
            for (at, row) in stream.rows.iter_mut().enumerate().skip(BOOTSTRAP) {
                row[column] = if keeps(at as u64) {
                    truth[at].clone()
                } else {
                    String::new()
                };
            }
            answers(&stream, &truth, "unseen: {}\n")
        };
        let chance = SHARE * u64::MAX as f64;
        let random = blank(&|at| (priority(at ^ (seed << 32)) as f64) < chance)?;
        let none = blank(&|_| false)?;
        let accuracy = |answers: &Answers| share(answers.right.iter().copied());
        let last = |answers: &Answers| {
            let from = answers.right.len() - answers.right.len() / 4;
            share(answers.right[from..].iter().copied())
        };
        let gain = |of: &dyn Fn(&Answers) -> f64, answers: &Answers| {
            (of(answers) - of(&none)) / (of(&all) - of(&none))
        };
        rounds.push(BTreeMap::from([
            ("none", accuracy(&none)),
            ("all", accuracy(&all)),
            ("asked", gain(&accuracy, &asked)),
            ("random", gain(&accuracy, &random)),
            ("asked, last", gain(&last, &asked)),
            ("random, last", gain(&last, &random)),
            ("labels asked", asked.labelled as f64 / samples as f64),
            ("labels random", random.labelled as f64 / samples as f64),
        ]));
    }
    let of = |name: &'static str| Spread::of(&rounds, move |round| round[name]);
    let mean =
        |name: &str| rounds.iter().map(|round| round[name]).sum::<f64>() / rounds.len() as f64;
    println!(
        "accuracy without labels {:.4}, with all {:.4}",
        mean("none"),
        mean("all")
    );
    let arms = [
        ("asked", "asked, last", "labels asked"),
        ("random", "random, last", "labels random"),
    ];
    for (name, last, labels) in arms {
        println!(
            "{name}: {:.1} % of the labels bring {:.3} of the gain on average, {}; over the last quarter {:.3}, {}",
            100.0 * mean(labels),
            mean(name),
            of(name).ratio("what all bring"),
            mean(last),
            of(last).ratio("what all bring"),
        );
    }
    let better = rounds
        .iter()
        .filter(|round| round["asked"] > round["random"])
        .count();
    println!(
        "asked is better than random with {better} of {} seeds",
        rounds.len()
    );
    Ok(())
}

/// Prints what samples with values made up cost: speed and memory, and the accuracy of those that
/// are known.
fn made_up() -> Result<()> {
    let fleet = |records: u64, seed: u64| SimulatorConfig {
        seed,
        records: Some(records),
        sites: 20,
        late_sites: 0.0,
        drift: STILL,
        ..SimulatorConfig::default()
    };
    let streams = [
        (200_000, None),
        (200_000, Some(5)),
        (400_000, None),
        (400_000, Some(5)),
    ];
    for (records, every) in streams {
        let config = fleet(records, 1);
        let schema = config.schema();
        let columns: Vec<String> = schema.columns().into_iter().map(str::to_string).collect();
        let zone = columns.iter().position(|name| name == "zone").unwrap_or(0);
        let mut source = open_rows(config, &columns)?;
        let mut row = Row::new(columns.len());
        let (mut text, mut scratch, mut number) = (columns.join(",") + "\n", String::new(), 0_u64);
        while source.next(&mut row)? == Next::Record {
            let made_up = every.is_some_and(|every| number > 20_000 && number % every == 0);
            for cell in 0..columns.len() {
                let comma = if cell == 0 { "" } else { "," };
                if made_up && cell == zone {
                    write!(text, "{comma}x{number}")?
                } else {
                    write!(text, "{comma}{}", row.get(cell).text(&mut scratch))?
                }
            }
            text.push('\n');
            number += 1;
        }
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("stream.csv"), text)?;
        let config = folder.path().join("config.yaml");
        let features: Vec<&str> = columns
            .iter()
            .map(String::as_str)
            .filter(|name| is_sensor(name))
            .collect();
        std::fs::write(
            &config,
            format!(
                "name: made-up
source: {{path: stream.csv}}
schema: {{id: id, time: time, site: site, attributes: [season, zone], features: [{}], label: {{column: label, classes: [c0, c1, c2]}}}}
tasks: {{path: [[season, zone], [site]]}}
bootstrap: {{records: 20000}}
labels: {{delay: {{records: 500}}}}
unseen: {{}}
{TRIGGERS}predictions: {{path: predictions.jsonl}}
",
                features.join(", ")
            ),
        )?;
        let (report, peak) = run(folder.path(), &config, &[])?;
        let lines = BufReader::new(File::open(folder.path().join("predictions.jsonl"))?).lines();
        let mut predicted = 0;
        for line in lines {
            predicted += usize::from(!line?.contains("zone=x"));
        }
        let (mut right, mut count) = (0.0, 0.0);
        for task in report["tasks"].as_array().into_iter().flatten() {
            let name = task["task"].as_str().unwrap_or_default();
            if name.starts_with("season=") && !name.contains('>') {
                let labelled = task["labelled"].as_f64().unwrap_or(0.0);
                right += labelled * task["accuracy"].as_f64().unwrap_or(0.0);
                count += labelled;
            }
        }
        let what = every.map_or("none".to_string(), |every| format!("every {every}th"));
        println!(
            "made up: {what} of {records}: {:.0} records/s, {}, {predicted} of known tasks with accuracy {:.4}, {} tasks",
            per_second(&report),
            mib(peak),
            right / count,
            report["tasks"].as_array().map_or(0, Vec::len),
        );
    }
    Ok(())
}

const TRIGGERS: &str = "triggers: {when: []}\n";

fn main() -> Result<()> {
    // All, or the part that is named.
    let named = std::env::args()
        .skip(1)
        .find(|named| !named.starts_with('-'));
    let is_asked = |part: &str| named.as_ref().is_none_or(|named| named == part);
    if is_asked("made_up") {
        made_up()?;
    }
    if is_asked("time_to_known") {
        time_to_known()?;
    }
    if is_asked("economy") {
        economy()?;
    }
    Ok(())
}
