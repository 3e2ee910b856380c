//! `perennial status`: the status of a pipeline and its link, while it runs or after.

use std::collections::BTreeMap;
use std::path::Path;

use comfy_table::Cell;
use perennial_connectors::knowledge_base::{
    KnowledgeBase, OutboxProgress, Progress, SkippedTotal, StageRecord, TaskRecord, View,
};
use perennial_connectors::link::{now, reach};
use perennial_operators::TaskId;
use perennial_operators::flow::EdgeProgress;
use serde::Serialize;

use crate::commands::kb::describe_skipped;
use crate::config::{LinkConfig, Mode, Role, Settings};
use crate::error::Error;
use crate::report::task_name;
use crate::terminal::{print, print_json, right, table, time};

/// Status of a pipeline.
#[derive(Serialize)]
struct StatusReport {
    name: String,
    role: &'static str,
    /// The last commit.
    commit: Commit,
    tasks: TaskStatus,
    /// Number of trainings that were ordered and have not ended.
    trainings: usize,
    /// Seconds since the oldest of them was ordered, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest_training: Option<f64>,
    /// Records that were deleted before they were read, by partition.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    skipped: Vec<SkippedTotal>,
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<Link>,
    /// At an edge: what waits to be sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    outbox: Option<OutboxStatus>,
    /// In the cloud: what it has received from each edge.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    edges: BTreeMap<String, Edge>,
    /// Version of the deployed model, by the name of its task.
    answering: BTreeMap<String, u32>,
    /// Latest revision of each task, by its name, that the cloud has published or the edge
    /// received.
    revisions: BTreeMap<String, u64>,
}

#[derive(Serialize)]
struct TaskStatus {
    defined: usize,
    most: usize,
    /// Samples whose own task is not defined, since there are as many tasks as may be.
    undefined_samples: u64,
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
    /// Addresses of the cloud's Kafka.
    brokers: String,
    reached: bool,
    /// Reason why it is not reached.
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
    /// Seconds since the edge sent what was last received, by the clocks of both.
    lag: f64,
    /// Number of times that a restored or second copy of the edge's state shared changes.
    forks: u64,
    /// Number of times that the edge came with a new state.
    renewals: u64,
    /// Number of changes, at most, that never came.
    lost: u64,
    /// Number of samples that may have been taken in twice.
    repeated: u64,
    /// Number of samples, statistics and models that the edge may not share.
    refused: u64,
}

/// Prints the status of the pipeline of a config from its state.
pub(crate) fn status(settings: &Settings, state: &Path, as_json: bool) -> Result<(), Error> {
    let knowledge = KnowledgeBase::open_to_read(state)?;
    let status = read(settings, &knowledge.view())?;
    if as_json {
        return print_json(&status);
    }
    print(&tables(&status));
    Ok(())
}

fn read(settings: &Settings, view: &View<'_>) -> Result<StatusReport, Error> {
    let config = settings.config();
    let progress = view.progress()?;
    let tasks = view.tasks()?;
    let answering = tasks.values().filter_map(|record| {
        let version = record.deployed?;
        Some((record.definition.name.to_string(), version))
    });
    let histories = view.histories()?;
    let edges = view.edges()?.into_iter().map(|(edge, progress)| {
        let history = histories.get(&edge).cloned().unwrap_or_default();
        let status = Edge {
            progress,
            lag: now().saturating_sub(progress.sent) as f64 / 1e6,
            forks: history.forks,
            renewals: history.renewals,
            lost: history.lost,
            repeated: history.repeated,
            refused: history.refused,
        };
        (edge, status)
    });
    let stages = view.stages()?;
    let trainings: Vec<&StageRecord> = stages
        .values()
        .filter(|stage| !stage.state().ended())
        .collect();
    let link = config.link.as_ref();
    let outbox = link.filter(|_| config.role == Role::Edge);
    Ok(StatusReport {
        name: config.name.clone(),
        role: config.role.name(),
        tasks: TaskStatus {
            defined: tasks.len(),
            most: config.tasks.most,
            undefined_samples: view.undefined()?,
        },
        trainings: trainings.len(),
        oldest_training: age_of_oldest(config.mode, &progress, &trainings),
        skipped: view.skipped()?.into_values().collect(),
        link: link.map(read_link),
        outbox: outbox.map(|link| OutboxStatus {
            progress: progress.outbox.clone(),
            most_bytes: link.outbox.bytes,
        }),
        edges: edges.collect(),
        answering: answering.collect(),
        revisions: revisions(config.role, view, &tasks)?,
        commit: Commit {
            epoch: progress.last_epoch().map(|epoch| epoch.0),
            commits: progress.commits,
            records: progress.records,
            samples: progress.samples,
            clock: progress.header.map(|header| header.clock),
        },
    })
}

/// Seconds since the oldest of some trainings was ordered, by the stream's clock: in live mode the
/// wall clock.
fn age_of_oldest(mode: Mode, progress: &Progress, trainings: &[&StageRecord]) -> Option<f64> {
    let ordered = trainings.iter().map(|stage| stage.clock).min()?;
    let now = match mode {
        Mode::Live => now(),
        Mode::Replay => progress.header?.clock,
    };
    Some(now.saturating_sub(ordered).max(0) as f64 / 1e6)
}

fn revisions(
    role: Role,
    view: &View<'_>,
    tasks: &BTreeMap<TaskId, TaskRecord>,
) -> Result<BTreeMap<String, u64>, Error> {
    Ok(match role {
        Role::Local => BTreeMap::new(),
        Role::Cloud => tasks
            .values()
            .filter_map(|record| {
                let name = record.definition.name.to_string();
                Some((name, record.moved?.0 + 1))
            })
            .collect(),
        // Donor 0 is the cloud itself; the others are edges whose models it passes on.
        Role::Edge => view
            .revisions()?
            .into_iter()
            .filter(|((_, donor), _)| *donor == 0)
            .map(|((task, _), revision)| (task_name(tasks, task), revision.number))
            .collect(),
    })
}

fn read_link(link: &LinkConfig) -> Link {
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
    let last = match (commit.epoch, commit.clock) {
        (Some(epoch), Some(clock)) => format!("epoch {epoch}, clock {}", time(clock)),
        _ => "none yet".to_string(),
    };
    fact("last commit", last);
    fact("samples", commit.samples.to_string());
    let TaskStatus {
        defined,
        most,
        undefined_samples: undefined,
    } = &status.tasks;
    let tasks = match undefined {
        0 => defined.to_string(),
        _ => format!("{defined} of {most}; {undefined} samples are of others"),
    };
    fact("tasks", tasks);
    fact("models that answer", status.answering.len().to_string());
    let trainings = match status.oldest_training {
        Some(age) => format!("{}, the oldest for {age:.0} s", status.trainings),
        None => status.trainings.to_string(),
    };
    fact("trainings", trainings);
    for skipped in &status.skipped {
        let (times, offsets) = (skipped.times, skipped.offsets);
        let last = describe_skipped(&skipped.last);
        fact(
            "skipped",
            format!("{offsets} offsets, {times} times; {last}"),
        );
    }
    if let Some(link) = &status.link {
        let reached = link.reason.as_deref().unwrap_or("reached");
        fact("link", format!("{}: {reached}", link.brokers));
        fact("tasks of the cloud", status.revisions.len().to_string());
    }
    if let Some(outbox) = &status.outbox {
        let OutboxStatus {
            progress,
            most_bytes,
        } = outbox;
        let waiting = format!(
            "{} changes with {} samples wait, {} of {most_bytes} bytes",
            progress.waiting, progress.samples, progress.bytes
        );
        fact("outbox", waiting);
        let last = match progress.arrived {
            Some(at) => format!(", the last at {}", time(at)),
            None => String::new(),
        };
        fact("arrived", format!("{} changes{last}", progress.sent));
        fact("shed", format!("{} samples", progress.shed_samples));
    }
    let mut text = format!("{facts}\n");
    if !status.edges.is_empty() {
        text.push_str(&edge_table(&status.edges));
    }
    text
}

fn edge_table(edges: &BTreeMap<String, Edge>) -> String {
    let mut rows = table(&[
        "edge",
        "samples",
        "bytes",
        "shed",
        "lost",
        "twice",
        "refused",
        "latest sample",
        "lag, s",
    ]);
    for (name, edge) in edges {
        rows.add_row(vec![
            Cell::new(name),
            right(edge.progress.samples),
            right(edge.progress.bytes),
            right(edge.progress.shed),
            right(edge.lost),
            right(edge.repeated),
            right(edge.refused),
            Cell::new(time(edge.progress.time)),
            right(format!("{:.1}", edge.lag)),
        ]);
    }
    format!("{rows}\n")
}
