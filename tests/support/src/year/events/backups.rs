//! Backups of states: yesterday's copy takes the place of today's.

use std::collections::BTreeSet;

use super::super::Year;
use super::super::config::FILES;
use super::files::Output;
use crate::fleet::Fleet;
use crate::{copy_folder, ended};

/// Copies of states.
#[derive(Default)]
pub struct Backups {
    edge: Option<EdgeBackup>,
    has_cloud: bool,
    restored: BTreeSet<&'static str>,
}

/// A copy of the state of the edge that writes files, and of its predictions.
struct EdgeBackup {
    predictions: Vec<u8>,
    /// Number of files that were rotated away before.
    archived: usize,
}

impl Backups {
    /// Whether a copy has ever taken the place of this state.
    pub fn was_restored(&self, name: &str) -> bool {
        self.restored.contains(name)
    }

    /// Gives up the copy of the cloud's state.
    pub fn forget_cloud(&mut self) {
        self.has_cloud = false;
    }
}

/// Stops a process, copies its state, and starts it again.
fn copy(year: &mut Year, name: &'static str, copy: &str) {
    year.members.stop(name);
    let bench = &year.fleet.bench;
    let to = bench.path(copy);
    if to.exists() {
        std::fs::remove_dir_all(&to).expect("an old copy is removed");
    }
    copy_folder(&bench.path(name), &to);
}

/// Puts a copy in the place of a state.
fn restore(year: &mut Year, name: &'static str, copy: &str) {
    year.members.kill(name);
    let bench = &year.fleet.bench;
    std::fs::remove_dir_all(bench.path(name)).expect("the state is removed");
    std::fs::rename(bench.path(copy), bench.path(name)).expect("the copy takes its place");
    year.backups.restored.insert(name);
}

/// Restores an edge with its outputs, or makes a copy if there is none.
pub fn of_edge(year: &mut Year) {
    let file = Output::Predictions.path();
    if year.backups.edge.is_none() {
        back_up_edge(year, file);
        year.rest(3000);
    }
    if let Some(backup) = year.backups.edge.take() {
        year.say(&format!("{FILES} is restored from its backup"));
        restore(year, FILES, "backup-edge");
        year.fleet.bench.write(file, backup.predictions);
        year.archive.files.truncate(backup.archived);
        year.members.start(FILES);
        year.members.go_on(&[FILES]);
    }
    back_up_edge(year, file);
}

fn back_up_edge(year: &mut Year, file: &str) {
    year.say(&format!("{FILES} is backed up"));
    copy(year, FILES, "backup-edge");
    let path = year.fleet.bench.path(file);
    year.backups.edge = Some(EdgeBackup {
        predictions: std::fs::read(path).unwrap_or_default(),
        archived: year.archive.files.len(),
    });
    year.members.start(FILES);
    year.members.go_on(&[FILES]);
}

/// Restores the cloud, or makes a copy if there is none.
pub fn of_cloud(year: &mut Year) {
    if !year.backups.has_cloud {
        back_up_cloud(year);
        year.rest(3000);
    }
    year.say("the cloud is restored from its backup");
    restore(year, "cloud", "backup-cloud");
    year.members.start("cloud");
    year.members.go_on(&["cloud"]);
    back_up_cloud(year);
}

fn back_up_cloud(year: &mut Year) {
    year.say("the cloud is backed up");
    copy(year, "cloud", "backup-cloud");
    year.backups.has_cloud = true;
    year.members.start("cloud");
    year.members.go_on(&["cloud"]);
}

/// Restores an edge whose results are on topics, which does not fit its consumer group: it is
/// refused, and nothing is done to the topics.
pub fn of_another_time(year: &mut Year) {
    let name = "south";
    year.say(&format!("{name} gets a state that does not fit its group"));
    let records = |fleet: &Fleet| fleet.status(name)["commit"]["records"].as_u64();
    copy(year, name, "backup-old");
    let before = records(&year.fleet);
    year.members.start(name);
    // A commit of no records leaves the consumer group as it was.
    let has_read = |fleet: &Fleet| records(fleet) > before;
    year.members
        .wait_until(&format!("{name} has read more"), has_read);
    year.members.stop(name);
    let path = |state: &str| year.fleet.bench.path(state);
    let swap = |from: &str, to: &str| {
        std::fs::rename(path(from), path(to)).expect("a state is moved");
    };
    swap(name, "backup-new");
    swap("backup-old", name);
    let refused = ended(year.fleet.command(name, &[]).output());
    refused.failure(1, &["do not belong together"]);
    std::fs::remove_dir_all(path(name)).expect("the old state is removed");
    swap("backup-new", name);
    year.members.start(name);
    year.members.go_on(&[name]);
}
