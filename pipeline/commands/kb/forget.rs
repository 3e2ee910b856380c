//! `perennial kb forget`: removes tasks, and every record that has their values, for good.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;

use clap::Args;
use perennial_connectors::knowledge_base::{KnowledgeBase, View};
use perennial_operators::flow::waiting_times;
use perennial_operators::{ErasedSite, Erasure, TaskDefinition, TaskId};
use serde_json::Value;

use crate::error::Error;
use crate::terminal::{print_json, print_line};

/// Microseconds of a day.
const DAY: i64 = 86_400_000_000;

/// A forgotten dead letter. Every line is longer, and the rest of it is blanks.
const BLANK: &[u8] = b"{\"forgotten\":true}";

/// What is forgotten: one of the three.
#[derive(Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Wanted {
    /// The task's name or number, as `kb tasks` and `kb unseen` print them; all below it goes too.
    task: Option<String>,
    /// All tasks of a site, and all samples of it that wait for labels.
    #[arg(long, value_name = "SITE")]
    site: Option<String>,
    /// All tasks without a labelled sample, or one that waits for its label, of the last days.
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..))]
    older_than: Option<u32>,
}

/// Forgets what is wanted.
pub(crate) fn forget(state: &Path, wanted: &Wanted, as_json: bool) -> Result<(), Error> {
    let knowledge = KnowledgeBase::open_to_edit(state)?;
    let erasure = match (&wanted.task, &wanted.site, wanted.older_than) {
        (Some(task), ..) => one_task(&knowledge.view(), task)?,
        (_, Some(site), _) => Erasure {
            site: Some(ErasedSite {
                column: knowledge.schema()?.site,
                value: site.clone(),
            }),
            ..Erasure::default()
        },
        (.., days) => old_tasks(&knowledge.view(), i64::from(days.unwrap_or_default()))?,
    };
    let erasure = knowledge.complete_erasure(erasure)?;
    remove_trainings(state)?;
    if let Some(site) = &wanted.site {
        blank_dead_letters(&state.join("dead-letters.jsonl"), site)?;
    }
    let forgotten = knowledge.forget(&erasure)?;
    if as_json {
        return print_json(&forgotten);
    }
    print_line(format!(
        "forgotten: {} tasks with {} retained samples; {} changes removed",
        forgotten.tasks, forgotten.samples, forgotten.changes
    ));
    Ok(())
}

/// A task by its name or number, defined or unseen.
fn one_task(view: &View<'_>, wanted: &str) -> Result<Erasure, Error> {
    let mut tasks: Vec<TaskDefinition> = Vec::new();
    let records = view.tasks()?.into_values();
    tasks.extend(records.map(|record| record.definition));
    let unseen = view.unseen()?.into_iter();
    tasks.extend(unseen.map(|entry| entry.group.task().clone()));
    let is_wanted =
        |task: &&TaskDefinition| &*task.name == wanted || task.task.to_string() == wanted;
    let Some(task) = tasks.iter().find(is_wanted) else {
        return Err(Error::NotFound(format!(
            "there is no task \"{wanted}\"; perennial kb tasks and perennial kb unseen list them"
        )));
    };
    if task.task == TaskId::BASE {
        return Err(Error::NotFound(
            "the base task cannot be forgotten: give another --state folder to start anew"
                .to_string(),
        ));
    }
    let mut erasure = Erasure::default();
    erasure.add(task);
    Ok(erasure)
}

/// Tasks whose latest sample, of theirs or below, is older than `days` by the stream's clock.
fn old_tasks(view: &View<'_>, days: i64) -> Result<Erasure, Error> {
    let mut erasure = Erasure::default();
    let Some(header) = view.progress()?.header else {
        return Ok(erasure);
    };
    let tasks = view.tasks()?;
    let oldest = header.clock.saturating_sub(days.saturating_mul(DAY));
    let mut latest = latest_waiting(view)?;
    for task in tasks.keys() {
        let samples = view.samples_of(*task)?.into_iter();
        let recent = view.recents_of(*task)?.into_iter();
        if let Some(time) = samples.chain(recent).map(|sample| sample.time).max() {
            let known = latest.entry(*task).or_insert(time);
            *known = time.max(*known);
        }
    }
    let mut young: BTreeSet<TaskId> = BTreeSet::new();
    for (task, _) in latest.iter().filter(|(_, time)| **time >= oldest) {
        let parent = |task: &TaskId| tasks.get(task).and_then(|record| record.definition.parent);
        young.extend(std::iter::successors(Some(*task), parent));
    }
    for (task, record) in &tasks {
        if *task != TaskId::BASE && !young.contains(task) {
            erasure.add(&record.definition);
        }
    }
    Ok(erasure)
}

/// The latest event time of samples that wait for their labels, by their finest task.
fn latest_waiting(view: &View<'_>) -> Result<BTreeMap<TaskId, i64>, Error> {
    let mut latest = BTreeMap::new();
    for bytes in view.pending()? {
        for (task, time) in waiting_times(&bytes)? {
            let known = latest.entry(task).or_insert(time);
            *known = time.max(*known);
        }
    }
    Ok(latest)
}

/// Overwrites the lines of a file of dead letters that have a site. Each keeps its length, since
/// the length of the file is committed.
fn blank_dead_letters(path: &Path, site: &str) -> Result<(), Error> {
    let failed = |error| Error::File(path.to_path_buf(), error);
    let mut bytes = match std::fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        read => read.map_err(failed)?,
    };
    let mut is_changed = false;
    for line in bytes.split_mut(|byte| *byte == b'\n') {
        let letter: Option<Value> = serde_json::from_slice(line).ok();
        let has_site = letter.is_some_and(|letter| {
            let mut texts = letter
                .as_object()
                .into_iter()
                .flat_map(|fields| fields.values());
            texts.any(|text| text.as_str().is_some_and(|text| text.contains(site)))
        });
        if has_site {
            is_changed = true;
            line.fill(b' ');
            line[..BLANK.len()].copy_from_slice(BLANK);
        }
    }
    if !is_changed {
        return Ok(());
    }
    let file = std::fs::File::options().write(true).open(path);
    let written = file.and_then(|mut file| {
        file.write_all(&bytes)?;
        file.sync_data()
    });
    written.map_err(failed)
}

/// Removes what killed trainings have left: samples of any task.
fn remove_trainings(state: &Path) -> Result<(), Error> {
    let folder = state.join("trainings");
    match std::fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::File(folder, error))
        }
        _ => Ok(()),
    }
}
