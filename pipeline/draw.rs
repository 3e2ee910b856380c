//! `perennial validate`: a config checked against its real source, and the graph that it makes.

use std::fmt::Write;

use perennial_operators::join::Delay;

use crate::config::Settings;
use crate::error::Error;
use crate::run::{bootstrap_records, open_file};

/// Opens the source, counts what the config needs counted, and draws the graph.
pub fn draw(settings: &Settings) -> Result<String, Error> {
    let config = settings.config();
    let (name, total) = match &config.source.simulator {
        Some(simulator) => ("simulator".to_string(), simulator.records),
        None => {
            let path = config.source.path.clone().unwrap_or_default();
            let mut source = open_file(settings)?;
            // Reading the first records shows that the columns are what the schema says.
            source.read(1)?;
            (path.display().to_string(), open_file(settings)?.count()?)
        }
    };
    let bootstrap = bootstrap_records(settings, total)?;
    let records = total.map_or("no end".to_string(), |total| format!("{total} records"));
    let levels: Vec<String> = settings
        .levels
        .levels
        .iter()
        .map(|level| {
            let names: Vec<&str> = level.iter().map(|(_, name)| name.as_str()).collect();
            names.join(" × ")
        })
        .collect();
    let delay = match settings.delay {
        Delay::Records(records) => format!("{records} records later"),
        Delay::Time(micros) => format!("{} s later", micros as f64 / 1e6),
    };
    let predictions = match &config.predictions {
        Some(predictions) => predictions.path.display().to_string(),
        None => "not written".to_string(),
    };
    let triggers = config.triggers.when.join(", or ");
    let epoch = config.epoch.records;
    let trees = &config.training.trees;
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "\
{}: the config is valid

  source      {name}: {records}, {} features, {} classes
    │         {bootstrap} records of bootstrap, then epochs of {epoch}
    ▼
  allocate    base → {}
    ▼
  infer ◄───────────────────────────────┐  the finest task with a model answers
    ├──────►  predictions  {predictions}
    ▼                                   │
  join        labels known {delay}
    ▼                                   │
  statistics  totals, and windows of {} labels
    ▼                                   │
  trigger     {triggers}
    ▼                                   │
  train       XGBoost, {} rounds, depth {}
    ▼                                   │
  evaluate    on labels of its own      │
    ▼                                   │
  deploy ───────────────────────────────┘  in the next epoch
",
        config.name,
        settings.features(),
        settings.classes.len(),
        levels.join(" → "),
        config.triggers.window,
        trees.rounds,
        trees.max_depth,
    );
    Ok(text)
}
