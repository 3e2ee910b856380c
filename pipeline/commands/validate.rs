//! `perennial validate`: a config checked against its real source, and the graph that it makes.

use std::fmt::Write;
use std::sync::Arc;

use perennial_connectors::kafka::Health;
use perennial_connectors::source::kafka::Resume;
use perennial_operators::label::{Delay, LabelTiming};
use perennial_operators::{LabelKind, Level};

use crate::config::IntegrationConfig;
use crate::config::PredictionsConfig;
use crate::config::{Role, Settings};
use crate::error::Error;
use crate::input::sources::{bootstrap_records, open_file, open_topics};

/// Opens the source, counts what the config needs counted, and draws the graph.
pub fn describe_graph(settings: &Settings) -> Result<String, Error> {
    let config = settings.config();
    let (name, total) = match &config.source.simulator {
        Some(simulator) => ("simulator".to_string(), simulator.records),
        None if let Some(kafka) = &config.source.kafka => {
            // Opening the topics shows that they are there.
            open_topics(
                settings,
                &Resume::default(),
                &Health::default(),
                &Arc::default(),
            )?;
            (format!("topic {}", kafka.topic), None)
        }
        None if config.source.edges.is_some() => {
            let edges = config.link.iter().flat_map(|link| link.edges.keys());
            let edges: Vec<&str> = edges.map(String::as_str).collect();
            (format!("edges {}", edges.join(", ")), None)
        }
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
    let levels: Vec<String> = settings.levels.levels.iter().map(level).collect();
    let length = |delay: Delay| match delay {
        Delay::Records(records) => format!("{records} records"),
        Delay::Time(micros) => format!("{} s", micros as f64 / 1e6),
    };
    let labels = match settings.arrival {
        LabelTiming::InSample(delay) => format!("labels known {} later", length(delay)),
        LabelTiming::OnRequest(delay) => {
            format!("labels that are asked for known {} later", length(delay))
        }
        LabelTiming::SeparateStream(wait) => {
            format!("labels when they come, within {}", length(wait))
        }
    };
    let predictions = match &config.predictions {
        None => "not written".to_string(),
        Some(PredictionsConfig { path, kafka, .. }) => {
            let topic = kafka.as_ref().map(|kafka| format!("topic {}", kafka.topic));
            let path = path.as_ref().map(|path| path.display().to_string());
            topic.or(path).unwrap_or_default()
        }
    };
    let integration = match config.inference.integration {
        IntegrationConfig::Leaf => "the finest task answers",
        IntegrationConfig::Average => "all along the path answer alike",
        IntegrationConfig::Weighted => "all along the path answer, weighted",
    };
    let epoch = config.epoch.records;
    let label = match settings.label_kind() {
        LabelKind::Classes(classes) => format!("{classes} classes"),
        LabelKind::Number => "a number".to_string(),
    };
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "\
{}: the config is valid

  source      {name}: {records}, {} features, {label}
    │         {bootstrap} records of bootstrap, then epochs of {epoch}
    ▼
  allocate    base → {}
    ▼
  infer ◄───────────────────────────────┐  {integration}
    ├──────►  predictions  {predictions}
    ▼                                   │
  join        {labels}
    ▼                                   │
  statistics  totals, and windows of {} labels
    ▼                                   │
{}",
        config.name,
        settings.features(),
        levels.join(" → "),
        config.triggers.window,
        learning(settings),
    );
    Ok(text)
}

/// What a level of the task tree is made of.
fn level(level: &Level) -> String {
    let join = |names: &[(usize, String)], with: &str| {
        let names: Vec<&str> = names.iter().map(|(_, name)| name.as_str()).collect();
        names.join(with)
    };
    match level {
        Level::Attributes(attributes) => join(attributes, " × "),
        Level::Cluster(plan) => {
            let number = plan
                .k
                .map_or("clusters".to_string(), |k| format!("{k} clusters"));
            format!("{number} of ({})", join(&plan.features, ", "))
        }
    }
}

/// Where models come from, and what leaves.
fn learning(settings: &Settings) -> String {
    let config = settings.config();
    let Some(link) = config.link.as_ref().filter(|_| config.role == Role::Edge) else {
        return training(settings);
    };
    let (kafka, share) = (&link.kafka.brokers, &settings.share);
    let shared = match share {
        None => "nothing leaves".to_string(),
        Some(policy) if policy.samples.is_some() => {
            format!("samples, to topic {} at {kafka}", link.changes)
        }
        Some(_) => format!("statistics, to topic {} at {kafka}", link.changes),
    };
    format!(
        "  share       {shared}
                                        │
  follow ───────────────────────────────┘  topic {} at {kafka}
",
        link.knowledge
    )
}

fn training(settings: &Settings) -> String {
    let config = settings.config();
    let triggers = config.triggers.when.join(", or ");
    let trees = &config.training.trees;
    let trainer = match &config.training.trainer {
        Some(trainer) => trainer.command.join(" "),
        None => format!(
            "XGBoost, {} rounds, depth {}",
            trees.rounds, trees.max_depth
        ),
    };
    let published = match (&config.link, config.role) {
        (Some(link), Role::Cloud) => {
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
  deploy ───────────────────────────────┘  in the next epoch{published}
"
    )
}
