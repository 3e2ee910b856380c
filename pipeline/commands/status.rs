//! `perennial status`: how a pipeline and its link are doing, while it runs or after.

use std::collections::BTreeMap;
use std::path::Path;

use comfy_table::Cell;
use perennial_connectors::knowledge_base::{KnowledgeBase, OutboxProgress, View};
use perennial_connectors::link::{now, reach};
use perennial_operators::flow::EdgeProgress;
use serde::Serialize;

use crate::config::{LinkConfig, Role, Settings};
use crate::error::Error;
use crate::terminal::{print, right, table, time};

/// How a pipeline is doing.
#[derive(Serialize)]
struct StatusReport {
    name: String,
    role: &'static str,
    /// The last commit.
    commit: Commit,
    /// Trainings that were ordered and have not ended.
    trainings: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<Link>,
    /// What waits at an edge.
    #[serde(skip_serializing_if = "Option::is_none")]
    outbox: Option<OutboxStatus>,
    /// What the cloud has taken in from each edge.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    edges: BTreeMap<String, Edge>,
    /// By the name of a task, the version that answers for it.
    answering: BTreeMap<String, u32>,
    /// By the name of a task, the number of what the cloud published last of it, or of what an edge took in last.
    revisions: BTreeMap<String, u64>,
}

#[derive(Serialize)]
struct Commit {
    epoch: Option<u64>,
    commits: u64,
    records: u64,
    samples: u64,
    /// The stream's clock, microseconds since 1970.
    clock: Option<i64>,
}

#[derive(Serialize)]
struct Link {
    /// Where the cloud's Kafka is.
    brokers: String,
    reached: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

#[derive(Serialize)]
struct OutboxStatus {
    #[serde(flatten)]
    progress: OutboxProgress,
    most_bytes: u64,
}

#[derive(Serialize)]
struct Edge {
    #[serde(flatten)]
    progress: EdgeProgress,
    /// Seconds since it sent what was last taken in, by the clocks here and there.
    lag: f64,
}

/// Prints how the pipeline of a config is doing, from its state.
pub fn status(settings: &Settings, state: &Path, as_json: bool) -> Result<(), Error> {
    let knowledge = KnowledgeBase::open_to_read(state)?;
    let status = read(settings, &knowledge.view())?;
    let text = match as_json {
        true => serde_json::to_string_pretty(&status)
            .map_err(|error| Error::Failed(error.into()))
            .map(|text| text + "\n")?,
        false => tables(&status),
    };
    print(&text);
    Ok(())
}

fn read(settings: &Settings, view: &View<'_>) -> Result<StatusReport, Error> {
    let config = settings.config();
    let progress = view.progress()?;
    let tasks = view.tasks()?;
    let name = |task| match tasks.get(&task) {
        Some(record) => record.definition.name.to_string(),
        None => task.to_string(),
    };
    let answering = tasks.values().filter_map(|record| {
        let version = record.deployed?;
        Some((record.definition.name.to_string(), version))
    });
    let revisions = match config.role {
        Role::Local => BTreeMap::new(),
        Role::Cloud => tasks
            .values()
            .filter_map(|record| {
                let name = record.definition.name.to_string();
                Some((name, record.moved?.0 + 1))
            })
            .collect(),
        Role::Edge => {
            let followed = view.followed()?.into_iter();
            let own = followed.filter(|((_, donor), _)| *donor == 0);
            own.map(|((task, _), revision)| (name(task), revision.number))
                .collect()
        }
    };
    let edges = view.edges()?.into_iter().map(|(edge, progress)| {
        let lag = now().saturating_sub(progress.sent) as f64 / 1e6;
        (edge, Edge { progress, lag })
    });
    let stages = view.stages()?;
    let training = stages.values().filter(|stage| !stage.state().ended());
    let outbox = |link: &LinkConfig| OutboxStatus {
        progress: progress.outbox.clone(),
        most_bytes: link.outbox.bytes,
    };
    Ok(StatusReport {
        name: config.name.clone(),
        role: config.role.name(),
        trainings: training.count(),
        link: config.link.as_ref().map(link),
        outbox: match config.role {
            Role::Edge => config.link.as_ref().map(outbox),
            _ => None,
        },
        edges: edges.collect(),
        answering: answering.collect(),
        revisions,
        commit: Commit {
            epoch: progress.last_epoch().map(|epoch| epoch.0),
            commits: progress.commits,
            records: progress.records,
            samples: progress.samples,
            clock: progress.header.map(|header| header.clock),
        },
    })
}

fn link(link: &LinkConfig) -> Link {
    let reached = reach(&link.kafka, &link.knowledge);
    Link {
        brokers: link.kafka.brokers.clone(),
        reached: reached.is_ok(),
        reason: reached.err().map(|error| error.to_string()),
    }
}

fn tables(status: &StatusReport) -> String {
    let mut facts = table(&["", &format!("{} ({})", status.name, status.role)]);
    let mut fact = |name: &str, text: String| {
        facts.add_row(vec![Cell::new(name), Cell::new(text)]);
    };
    let commit = &status.commit;
    fact(
        "last commit",
        match (commit.epoch, commit.clock) {
            (Some(epoch), Some(clock)) => format!("epoch {epoch}, clock {}", time(clock)),
            _ => "none yet".to_string(),
        },
    );
    fact("samples", commit.samples.to_string());
    fact("models that answer", status.answering.len().to_string());
    fact("trainings", status.trainings.to_string());
    if let Some(link) = &status.link {
        fact(
            "link",
            match &link.reason {
                None => format!("{}: reached", link.brokers),
                Some(reason) => format!("{}: {reason}", link.brokers),
            },
        );
        fact("tasks of the cloud", status.revisions.len().to_string());
    }
    if let Some(outbox) = &status.outbox {
        let OutboxStatus {
            progress,
            most_bytes,
        } = outbox;
        fact(
            "outbox",
            format!(
                "{} changes with {} samples wait, {} of {most_bytes} bytes",
                progress.waiting, progress.samples, progress.bytes
            ),
        );
        let last = progress
            .arrived
            .map_or(String::new(), |at| format!(", the last at {}", time(at)));
        fact("arrived", format!("{} changes{last}", progress.sent));
        fact("shed", format!("{} samples", progress.shed_samples));
    }
    let mut text = format!("{facts}\n");
    if !status.edges.is_empty() {
        let names = [
            "edge",
            "samples",
            "bytes",
            "shed",
            "latest sample",
            "lag, s",
        ];
        let mut edges = table(&names);
        for (name, edge) in &status.edges {
            edges.add_row(vec![
                Cell::new(name),
                right(edge.progress.samples),
                right(edge.progress.bytes),
                right(edge.progress.shed),
                Cell::new(time(edge.progress.time)),
                right(format!("{:.1}", edge.lag)),
            ]);
        }
        text.push_str(&format!("{edges}\n"));
    }
    text
}
