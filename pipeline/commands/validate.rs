//! `perennial validate`: checks a config against its source, and draws the graph.

use std::sync::Arc;

use perennial_connectors::format::greet_registry;
use perennial_connectors::kafka::Health;
use perennial_connectors::source::kafka::Resume;
use perennial_operators::label::{Delay, LabelTiming};
use perennial_operators::{LabelKind, Level};

use crate::config::{Config, IntegrationConfig, LinkConfig, Role, Settings};
use crate::error::Error;
use crate::input::sources::{bootstrap_records, open_file, open_topics};

/// Opens the source, counts its records if the config needs that, and draws the graph.
pub(crate) fn describe_graph(settings: &Settings) -> Result<String, Error> {
    let config = settings.config();
    let (source, total) = open_source(settings)?;
    let records = total.map_or("no end".to_string(), |total| format!("{total} records"));
    let bootstrap = bootstrap_records(settings, total)?;
    let label = match settings.label_kind() {
        LabelKind::Classes(classes) => format!("{classes} classes"),
        LabelKind::Number => "a number".to_string(),
    };
    let integration = match config.inference.integration {
        IntegrationConfig::Leaf => "the finest task answers",
        IntegrationConfig::Average => "all along the path answer alike",
        IntegrationConfig::Weighted => "all along the path answer, weighted",
    };
    let levels: Vec<String> = settings.levels.levels.iter().map(level).collect();
    Ok(format!(
        "\
{}: the config is valid

  source      {source}: {records}, {} features, {label}
    │         {bootstrap} records of bootstrap, then epochs of {}
    ▼
  allocate    base → {}
    ▼
  infer ◄───────────────────────────────┐  {integration}
    ├──────►  predictions  {}
    ▼                                   │
  join        {}
    ▼                                   │
  statistics  totals, and windows of {} labels
    ▼                                   │
{}",
        config.name,
        settings.features(),
        config.epoch.records,
        levels.join(" → "),
        predictions(config),
        labels(settings.arrival),
        config.triggers.window,
        learning(settings),
    ))
}

/// Opens the source. Returns its name, and the number of its records if it has an end.
fn open_source(settings: &Settings) -> Result<(String, Option<u64>), Error> {
    let config = settings.config();
    if let Some(simulator) = &config.source.simulator {
        return Ok(("simulator".to_string(), simulator.records));
    }
    if let Some(kafka) = &config.source.kafka {
        if let Some(registered) = config.kafka.as_ref().filter(|_| config.uses_registry()) {
            greet_registry(registered)?;
        }
        // Opening the topics shows that they exist.
        open_topics(
            settings,
            &Resume::default(),
            &Health::default(),
            &Arc::default(),
        )?;
        return Ok((format!("topic {}", kafka.topic), None));
    }
    if config.source.edges.is_some() {
        let edges = config.link.iter().flat_map(|link| link.edges.keys());
        let edges: Vec<&str> = edges.map(String::as_str).collect();
        return Ok((format!("edges {}", edges.join(", ")), None));
    }
    let path = config.source.path.clone().unwrap_or_default();
    // Reading the first record shows that the columns are those of the schema.
    open_file(settings)?.read(1)?;
    Ok((path.display().to_string(), open_file(settings)?.count()?))
}

/// The attributes or the features of a level of the task tree.
fn level(level: &Level) -> String {
    let join = |names: &[(usize, String)], separator: &str| {
        let names: Vec<&str> = names.iter().map(|(_, name)| name.as_str()).collect();
        names.join(separator)
    };
    match level {
        Level::Attributes(attributes) => join(attributes, " × "),
        Level::Cluster(plan) => {
            let number = plan.k.map_or(String::new(), |k| format!("{k} "));
            format!("{number}clusters of ({})", join(&plan.features, ", "))
        }
    }
}

fn predictions(config: &Config) -> String {
    let Some(predictions) = &config.predictions else {
        return "not written".to_string();
    };
    match (&predictions.kafka, &predictions.path) {
        (Some(kafka), _) => format!("topic {}", kafka.topic),
        (None, Some(path)) => path.display().to_string(),
        (None, None) => String::new(),
    }
}

fn labels(timing: LabelTiming) -> String {
    let length = |delay: Delay| match delay {
        Delay::Records(records) => format!("{records} records"),
        Delay::Time(micros) => format!("{} s", micros as f64 / 1e6),
    };
    match timing {
        LabelTiming::InSample(delay) => format!("labels known {} later", length(delay)),
        LabelTiming::OnRequest(delay) => {
            format!("labels that are asked for known {} later", length(delay))
        }
        LabelTiming::SeparateStream(wait) => {
            format!("labels when they come, within {}", length(wait))
        }
    }
}

/// Where models come from, and what leaves.
fn learning(settings: &Settings) -> String {
    let config = settings.config();
    match (config.role, &config.link) {
        (Role::Edge, Some(link)) => {
            // The models of both kinds of lines go back to inference.
            let trained = if link.train {
                training(config, "┤") + "                                        │\n"
            } else {
                String::new()
            };
            trained + &linked(settings, link)
        }
        _ => training(config, "┘"),
    }
}

/// What an edge shares and receives.
fn linked(settings: &Settings, link: &LinkConfig) -> String {
    let kafka = &link.kafka.brokers;
    let mut leaving = Vec::new();
    if let Some(policy) = &settings.share {
        if policy.samples.is_some() {
            leaving.push("samples");
        } else if policy.statistics {
            leaving.push("statistics");
        }
        if policy.models {
            leaving.push("models");
        }
    }
    let shared = if leaving.is_empty() {
        "nothing leaves".to_string()
    } else {
        let leaving = leaving.join(" and ");
        format!("{leaving}, to topic {} at {kafka}", link.changes)
    };
    format!(
        "  share       {shared}
                                        │
  follow ───────────────────────────────┘  topic {} at {kafka}
",
        link.knowledge
    )
}

/// Training, whose models go back to inference; `corner` ends the last line.
fn training(config: &Config, corner: &str) -> String {
    let triggers = config.triggers.when.join(", or ");
    let trees = &config.training.trees;
    let trainer = match &config.training.trainer {
        Some(trainer) => trainer.command.join(" "),
        None => format!(
            "XGBoost, {} rounds, depth {}",
            trees.rounds, trees.max_depth
        ),
    };
    let published = match (config.role, &config.link) {
        (Role::Cloud, Some(link)) => {
            format!(
                ", and on topic {} at {}",
                link.knowledge, link.kafka.brokers
            )
        }
        _ => String::new(),
    };
    format!(
        "  trigger     {triggers}
    ▼                                   │
  train       {trainer}
    ▼                                   │
  evaluate    on labels of its own      │
    ▼                                   │
  deploy ───────────────────────────────{corner}  in the next epoch{published}
"
    )
}
