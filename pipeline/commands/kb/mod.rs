//! `perennial kb`: looking into a knowledge base.

mod changes;
mod clusters;
mod describe;
mod edit;
mod figures;
mod find;
mod lineage;
mod memory;
mod models;
mod stages;
mod tasks;
mod unseen;
mod verify;

use std::path::Path;

use clap::Subcommand;
use perennial_connectors::knowledge_base::{KnowledgeBase, KnowledgeError};
use perennial_operators::Epoch;

use self::changes::changes;
use self::models::{models, relations};
use self::stages::stages;
use self::tasks::{show, tasks};
use self::verify::verify;
use crate::error::Error;

/// What to look at.
#[derive(Subcommand)]
pub enum KbCommand {
    /// The tasks, with their statistics and models.
    Tasks,
    /// The models that were trained.
    Models,
    /// The stages of learning.
    Stages,
    /// How well the model of one task does on the samples of another.
    Relations,
    /// The clusters of features that tasks are made of, with their centres.
    Clusters,
    /// Every change, in order: what the knowledge base is the sum of.
    Changes {
        /// Begin at this epoch.
        #[arg(long, value_name = "EPOCH", default_value_t = 0)]
        from: u64,
    },
    /// How much of each task's past is retained, and how much may be.
    Memory,
    /// Unseen tasks, and what became of them.
    Unseen,
    /// How a task came to be what it is: from its first sample over trials, labels asked for and drift to its models.
    Lineage {
        /// The task's name or number, as `kb tasks` and `kb unseen` print them.
        task: String,
    },
    /// One task, whole.
    Show {
        /// The task's name or number, as `kb tasks` prints them.
        task: String,
    },
    /// Let an earlier model of a task answer again; a run must not be using the state.
    Rollback {
        /// The task's name or number.
        task: String,
        /// The version to go back to; left out, the one before, or none of its own where there was none.
        #[arg(long, value_name = "VERSION")]
        to: Option<u32>,
    },
    /// Keep the model of a task as it is, whatever is learned; a run must not be using the state.
    Pin {
        /// The task's name or number.
        task: String,
    },
    /// Let a pinned task learn again; a run must not be using the state.
    Unpin {
        /// The task's name or number.
        task: String,
    },
    /// Check that every pointer resolves, every model matches its hash, and the counts equal a recount.
    Verify,
}

/// Carries a command out.
pub fn execute(command: KbCommand, state: &Path, as_json: bool) -> Result<(), Error> {
    let knowledge = KnowledgeBase::open_to_read(state)?;
    let view = knowledge.view();
    let kind = || Ok::<_, KnowledgeError>(knowledge.label()?.kind());
    match command {
        KbCommand::Tasks => tasks(&view, kind()?, as_json),
        KbCommand::Models => models(&view, kind()?, as_json),
        KbCommand::Stages => stages(&view, as_json),
        KbCommand::Relations => relations(&view, kind()?, as_json),
        KbCommand::Clusters => clusters::clusters(&view, as_json),
        KbCommand::Changes { from } => changes(&view, kind()?, Epoch(from), as_json),
        KbCommand::Memory => memory::memory(&view, as_json),
        KbCommand::Unseen => unseen::unseen(&view, as_json),
        KbCommand::Lineage { task } => lineage::lineage(&view, kind()?, &task, as_json),
        KbCommand::Show { task } => show(&view, kind()?, &task, as_json),
        KbCommand::Verify => verify(&view, as_json),
        KbCommand::Rollback { task, to } => edit::roll_back(state, &task, to),
        KbCommand::Pin { task } => edit::pin(state, &task, true),
        KbCommand::Unpin { task } => edit::pin(state, &task, false),
    }
}
