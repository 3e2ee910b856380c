//! `perennial kb`: looks into a knowledge base, one command a file.

mod changes;
mod clusters;
mod describe;
mod figures;
mod find;
mod forget;
mod lineage;
mod memory;
mod models;
mod pin;
mod plot;
mod relations;
mod rollback;
mod settle;
mod show;
mod stages;
mod tasks;
mod unseen;
mod verify;

use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueEnum};
use perennial_connectors::knowledge_base::{KnowledgeBase, KnowledgeError};
use perennial_operators::Epoch;

pub(crate) use self::describe::describe_skipped;
use crate::error::Error;

/// A command of `perennial kb`.
#[derive(Subcommand)]
pub(crate) enum KbCommand {
    /// List the tasks, with their statistics and models.
    Tasks,
    /// List the models that were trained.
    Models,
    /// List the training stages and how they ended.
    Stages,
    /// List how well the model of one task does on the samples of another.
    Relations,
    /// List the clusters of features that tasks are made of, with their centres.
    Clusters,
    /// List every knowledge change, in order. The knowledge base is the sum of them.
    Changes {
        /// Begin at this epoch.
        #[arg(long, value_name = "EPOCH", default_value_t = 0)]
        from: u64,
    },
    /// List how many samples each task retains, and the bound.
    Memory,
    /// List unseen tasks, and what became of them.
    Unseen,
    /// Show the history of a task: first sample, trials, label requests, drift, models.
    Lineage {
        /// The task's name or number, as `kb tasks` and `kb unseen` print them.
        task: String,
    },
    /// Show everything about one task.
    Show {
        /// The task's name or number, as `kb tasks` prints them.
        task: String,
    },
    /// Plot how well predictions did over the labelled samples, as an SVG file. Its lines are the
    /// accuracy (the RMSE where the label is a number) of the pipeline, "lifelong", and of each
    /// baseline, in about 60 equal parts of the samples.
    Plot {
        /// The SVG file to write.
        #[arg(long, value_name = "FILE.svg")]
        out: PathBuf,
        /// The pipeline's config, which names the baselines. Without it, they are numbered.
        #[arg(long, value_name = "CONFIG")]
        config: Option<PathBuf>,
    },
    /// Deploy an earlier model of a task again; no run may be using the state.
    Rollback {
        /// The task's name or number.
        task: String,
        /// The version to go back to. Default: the one before, or none of its own where there was
        /// none.
        #[arg(long, value_name = "VERSION")]
        to: Option<u32>,
    },
    /// Keep the model of a task as it is, whatever is learned; no run may be using the state.
    Pin {
        /// The task's name or number.
        task: String,
    },
    /// Let a pinned task learn again; no run may be using the state.
    Unpin {
        /// The task's name or number.
        task: String,
    },
    /// Remove tasks with their samples, models and statistics, and every record that has their
    /// values, for good; no run may be using the state.
    Forget(forget::Wanted),
    /// Settle the commit that a crash left prepared, where the consumer group no longer tells
    /// whether it counts; no run may be using the state.
    Settle {
        /// Whether its results are in the topics.
        #[arg(value_enum)]
        how: Settle,
    },
    /// Check that every pointer resolves, every model matches its hash, and the counts equal a
    /// recount.
    Verify,
}

/// What becomes of a prepared commit.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Settle {
    /// Its results are in the topics: it counts.
    Apply,
    /// They are not: its records are read again.
    Drop,
}

/// Executes a command on the knowledge base in the folder `state`.
pub(crate) fn execute(command: KbCommand, state: &Path, as_json: bool) -> Result<(), Error> {
    let knowledge = KnowledgeBase::open_to_read(state)?;
    let view = knowledge.view();
    let kind = || Ok::<_, KnowledgeError>(knowledge.label()?.kind());
    match command {
        KbCommand::Tasks => tasks::tasks(&view, kind()?, as_json),
        KbCommand::Models => models::models(&view, kind()?, as_json),
        KbCommand::Stages => stages::stages(&view, as_json),
        KbCommand::Relations => relations::relations(&view, kind()?, as_json),
        KbCommand::Clusters => clusters::clusters(&view, as_json),
        KbCommand::Changes { from } => changes::changes(&view, kind()?, Epoch(from), as_json),
        KbCommand::Memory => memory::memory(&view, as_json),
        KbCommand::Unseen => unseen::unseen(&view, as_json),
        KbCommand::Lineage { task } => lineage::lineage(&view, kind()?, &task, as_json),
        KbCommand::Show { task } => show::show(&view, kind()?, &task, as_json),
        KbCommand::Plot { out, config } => plot::plot(&view, kind()?, config.as_deref(), &out),
        KbCommand::Verify => verify::verify(&view, as_json),
        KbCommand::Settle { how } => settle::settle(state, how),
        KbCommand::Rollback { task, to } => rollback::roll_back(state, &task, to),
        KbCommand::Forget(wanted) => forget::forget(state, &wanted, as_json),
        KbCommand::Pin { task } => pin::pin(state, &task, true),
        KbCommand::Unpin { task } => pin::pin(state, &task, false),
    }
}
