//! Recognition of unseen tasks on the thermal comfort votes: cities, climates, and seasons ×
//! cooling that no model, adapter or statistic knows are to be told from those that are known, by
//! features and answers alone. And what recognition costs, on the simulated fleet.
//!
//! `make bench BENCH=unseen`, with the votes' file in `PERENNIAL_THERMAL`.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Command;

use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use common::{Result, Spread, TRAINING, per_second, run};
use perennial_operators::{TaskId, priority};

/// What is left out: values of these columns, every so many-th of them.
const LEVELS: [&[&str]; 3] = [&["city"], &["climate"], &["season", "cooling"]];
const FOLDS: u64 = 4;
/// The folds that are measured; the default was chosen on the others.
const MEASURED: std::ops::Range<u64> = 2..4;
/// Votes of a finest task in the bootstrap for it to be known, as the config has it by default.
const KNOWN: usize = 10;
/// Share of the votes that serves as the bootstrap, less those of what is left out.
const BOOTSTRAP: f64 = 0.4;
/// The methods, each alone and all together; `density` is the default, attributes aside.
const METHODS: [&str; 6] = [
    "density",
    "nearest",
    "probability",
    "entropy",
    "disagreement",
    "density, nearest, probability, entropy, disagreement",
];
/// Rates of false alarms.
const RATES: [f64; 3] = [0.005, 0.01, 0.05];

/// The votes.
struct Votes {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

/// The p-values of samples of known and of unknown tasks.
#[derive(Default)]
struct Told {
    known: Vec<f64>,
    unseen: Vec<f64>,
}

/// What recognition is measured with, and without.
const COSTS: [(&str, &str); 3] = [
    ("without recognition", ""),
    ("attributes and density", "unseen: {}\n"),
    (
        "all methods",
        "unseen: {methods: [attributes, density, nearest, probability, entropy, disagreement]}\n",
    ),
];
/// Rounds, in each of which all of them are measured in turn.
const ROUNDS: usize = 5;

/// Prints how many records a second are predicted, and by how much recognition slows that down.
fn cost() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut rounds: Vec<[f64; 3]> = Vec::new();
    for _ in 0..ROUNDS {
        let mut speeds = [0.0; 3];
        for (speed, (_, unseen)) in speeds.iter_mut().zip(COSTS) {
            let folder = tempfile::tempdir_in(folder.path())?;
            let config = folder.path().join("config.yaml");
            std::fs::write(&config, format!("{FLEET}{TRAINING}{unseen}"))?;
            let (report, _) = run(folder.path(), &config, &[])?;
            *speed = per_second(&report);
        }
        rounds.push(speeds);
    }
    for (at, (name, _)) in COSTS.iter().enumerate() {
        let speed = Spread::of(&rounds, |round| round[at]).middle;
        let ratio = Spread::of(&rounds, |round| round[at] / round[0]);
        println!("{name}: {speed:.0} records/s, {}", ratio.ratio(COSTS[0].0));
    }
    Ok(())
}

/// Fifty sites with models of their own.
const FLEET: &str = "name: fleet
source:
  simulator: {records: 1500000, sites: 50, contexts: 5, late_sites: 0, drift: {strength: 0}}
tasks: {path: [[site]]}
bootstrap: {records: 50000}
epoch: {records: 16384}
predictions: {path: predictions.jsonl}
";

fn main() -> Result<()> {
    cost()?;
    let Ok(path) = std::env::var("PERENNIAL_THERMAL") else {
        println!("skipped: PERENNIAL_THERMAL does not name the file of the thermal comfort votes");
        return Ok(());
    };
    let votes = Votes::read(&path)?;
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header([
        "left out",
        "method",
        "AUROC",
        "at 0.5 %",
        "at 1 %",
        "at 5 %",
        "unseen found at 5 %",
    ]);
    for level in LEVELS {
        for methods in METHODS {
            let mut all = Vec::new();
            for fold in MEASURED {
                let folder = tempfile::tempdir()?;
                let bootstrap = votes.write(folder.path(), level, fold)?;
                all.push(tell(folder.path(), methods, bootstrap)?);
            }
            table.add_row(row(&level.join(" × "), methods, &all));
        }
    }
    println!("{table}");
    Ok(())
}

fn row(level: &str, methods: &str, all: &[Told]) -> Vec<String> {
    let mean = |of: &dyn Fn(&Told) -> f64| all.iter().map(of).sum::<f64>() / all.len() as f64;
    let share =
        |of: &[f64], rate: f64| of.iter().filter(|p| **p <= rate).count() as f64 / of.len() as f64;
    let mut row = vec![level.to_string(), methods.to_string()];
    row.push(format!("{:.3}", mean(&auroc)));
    let rates =
        RATES.map(|rate| format!("{:.2} %", 100.0 * mean(&|told| share(&told.known, rate))));
    row.extend(rates);
    row.push(format!(
        "{:.1} %",
        100.0 * mean(&|told| share(&told.unseen, RATES[2]))
    ));
    row
}

/// The probability that a sample of an unseen task has a lower p-value than one of a known task; of
/// equals a half.
fn auroc(told: &Told) -> f64 {
    let mut known = told.known.clone();
    known.sort_by(f64::total_cmp);
    let above = |p: &f64| {
        let lower = known.partition_point(|other| other < p);
        let equal = known.partition_point(|other| other <= p) - lower;
        (known.len() - lower - equal) as f64 + equal as f64 / 2.0
    };
    let sum: f64 = told.unseen.iter().map(above).sum();
    sum / (known.len() * told.unseen.len()) as f64
}

impl Votes {
    fn read(path: &str) -> Result<Votes> {
        let unpacked = Command::new("gzip").args(["-dc", path]).output()?;
        let text = String::from_utf8(unpacked.stdout)?;
        // The file has no quotes.
        let mut lines = text
            .lines()
            .map(|line| line.split(',').map(str::to_string).collect::<Vec<_>>());
        let header = lines.next().ok_or("the file of votes is empty")?;
        Ok(Votes {
            header,
            rows: lines.collect(),
        })
    }

    fn column(&self, name: &str) -> Result<usize> {
        let found = self.header.iter().position(|column| column == name);
        Ok(found.ok_or_else(|| format!("there is no column {name}"))?)
    }

    /// Writes the votes in an order that has nothing to do with time, so that places come back:
    /// first the bootstrap with its labels, without what is left out, then the rest without labels.
    /// Ids say what is known. Gives the votes of the bootstrap.
    fn write(&self, folder: &Path, level: &[&str], fold: u64) -> Result<u64> {
        let columns: Result<Vec<usize>> = level.iter().map(|name| self.column(name)).collect();
        let columns = columns?;
        let (id, time, label) = (
            self.column("id")?,
            self.column("time")?,
            self.column("preference")?,
        );
        let of = |row: &[String]| -> Vec<(String, String)> {
            let values = columns
                .iter()
                .map(|column| (self.header[*column].clone(), row[*column].clone()));
            values.collect()
        };
        let left_out = |row: &[String]| TaskId::BASE.child(&of(row)).0 % FOLDS == fold;
        let mut order: Vec<usize> = (0..self.rows.len()).collect();
        order.sort_by_key(|row| priority(*row as u64));
        let (first, rest) = order.split_at((order.len() as f64 * BOOTSTRAP) as usize);
        let first: Vec<usize> = first
            .iter()
            .copied()
            .filter(|row| !left_out(&self.rows[*row]))
            .collect();
        let known: BTreeSet<Vec<(String, String)>> =
            first.iter().map(|row| of(&self.rows[*row])).collect();
        let finest: Result<Vec<usize>> = ["season", "cooling", "city", "site"]
            .map(|name| self.column(name))
            .into_iter()
            .collect();
        let finest = finest?;
        let leaf = |row: &[String]| -> Vec<String> {
            finest.iter().map(|column| row[*column].clone()).collect()
        };
        let mut votes: BTreeMap<Vec<String>, usize> = BTreeMap::new();
        for row in &first {
            *votes.entry(leaf(&self.rows[*row])).or_default() += 1;
        }
        let mut text = self.header.join(",") + "\n";
        for (number, row) in first.iter().chain(rest).enumerate() {
            let mut row = self.rows[*row].clone();
            let is_known = votes.get(&leaf(&row)).is_some_and(|votes| *votes >= KNOWN);
            // What is of a new site in a known place is neither.
            let kind = match (known.contains(&of(&row)), is_known) {
                (false, _) => "u",
                (true, true) => "k",
                (true, false) => "n",
            };
            row[id] = format!("{kind}{number}");
            row[time] = (1_700_000_000 + number).to_string();
            if number >= first.len() {
                row[label].clear();
            }
            writeln!(text, "{}", row.join(","))?;
        }
        std::fs::write(folder.join("stream.csv"), text)?;
        Ok(first.len() as u64)
    }
}

/// What these methods say of the votes behind the bootstrap.
fn tell(folder: &Path, methods: &str, bootstrap: u64) -> Result<Told> {
    let config = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("configs/thermal.yaml");
    let settings = [
        "source.path=stream.csv".to_string(),
        "bootstrap.share=null".to_string(),
        format!("bootstrap.records={bootstrap}"),
        "triggers.when=[]".to_string(),
        "epoch.records=256".to_string(),
        format!("unseen.methods=[{methods}]"),
        "predictions.path=predictions.jsonl".to_string(),
    ];
    let set: Vec<&str> = settings.iter().flat_map(|set| ["--set", set]).collect();
    run(folder, &config, &set)?;
    let mut told = Told::default();
    let lines = BufReader::new(File::open(folder.join("predictions.jsonl"))?).lines();
    for line in lines {
        let line: BTreeMap<String, serde_json::Value> = serde_json::from_str(&line?)?;
        // The first are not compared with anything yet.
        if let (Some(p), Some(id)) = (line["p"].as_f64(), line["id"].as_str()) {
            match id.chars().next() {
                Some('k') => told.known.push(p),
                Some('u') => told.unseen.push(p),
                _ => {}
            }
        }
    }
    Ok(told)
}
