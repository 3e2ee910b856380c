//! The command line.

mod audit;
mod bench;
mod evaluate;
mod kb;
mod label;
mod produce;
mod run;
mod status;
mod validate;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use self::audit::audit;
use self::bench::bench;
use self::evaluate::evaluate;
use self::kb::KbCommand;
use self::produce::produce_command;
use self::run::run_command;
use self::status::status;
use self::validate::describe_graph;

use crate::config::{Config, Settings, load};
use crate::error::{Error, render};
use crate::terminal::print;

/// Edge-cloud collaborative lifelong learning as one streaming engine.
#[derive(Parser)]
#[command(version, about, disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Log as JSON lines instead of text. What is logged: RUST_LOG, such as `info` or
    /// `perennial=debug`; default `warn`.
    #[arg(long, global = true)]
    log_json: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Run a pipeline to the end of its stream.
    Run {
        /// The pipeline's config.
        config: PathBuf,
        /// Override a key of the config: `epoch.records=1024`.
        #[arg(long = "set", value_name = "KEY=VALUE")]
        set: Vec<String>,
        /// Where the state is kept. A run with the same folder goes on from the last commit.
        /// Default: a temporary folder, removed at the end.
        #[arg(long, value_name = "DIR")]
        state: Option<PathBuf>,
        /// Write the report as JSON.
        #[arg(long, value_name = "FILE.json")]
        report: Option<PathBuf>,
        /// Worker threads of the dataflow.
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
        workers: u16,
    },
    /// Send samples and labels to the topics of a config, as edge sites do.
    Produce {
        /// The pipeline's config, with a section `produce`.
        config: PathBuf,
        /// Override a key of the config: `produce.rate=1000`.
        #[arg(long = "set", value_name = "KEY=VALUE")]
        set: Vec<String>,
    },
    /// Measure a pipeline on topics of its own: records a second, and latency at higher and higher rates.
    Bench {
        /// The pipeline's config, with a section `produce`.
        config: PathBuf,
        /// Override a key of the config.
        #[arg(long = "set", value_name = "KEY=VALUE")]
        set: Vec<String>,
        /// Worker threads of the dataflow.
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
        workers: u16,
        /// Samples to work through at full speed.
        #[arg(long, value_name = "N", default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..))]
        records: u64,
        /// How long each rate is offered.
        #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
        seconds: u32,
        /// Write the findings as JSON.
        #[arg(long, value_name = "FILE.json")]
        report: Option<PathBuf>,
    },
    /// Measure lifelong learning: tasks arrive one after another, and after each every task is tested, of the
    /// pipeline and of baselines.
    Evaluate {
        /// The pipeline's config.
        config: PathBuf,
        /// Override a key of the config.
        #[arg(long = "set", value_name = "KEY=VALUE")]
        set: Vec<String>,
        /// The tasks are the values of these attributes, in order of first appearance.
        /// Default: the first level of tasks.path.
        #[arg(long, value_name = "ATTRIBUTE,…", conflicts_with = "slices")]
        sequence: Option<String>,
        /// The tasks are so many slices of time, all of one length.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..))]
        slices: Option<u32>,
        /// Seed of the choice of the quarter of samples that are tested.
        #[arg(long, value_name = "N", default_value_t = 1)]
        seed: u64,
        /// Print the findings as JSON instead of tables.
        #[arg(long)]
        json: bool,
        /// Write the findings as JSON, plots of them, and what the pipeline answered.
        #[arg(long, value_name = "DIR")]
        output: Option<PathBuf>,
    },
    /// Answer the labels that a pipeline asks for: as somebody types, or from a file. Answers go to the topic that its
    /// labels come from. The pipeline may be running.
    Label {
        /// The pipeline's config.
        config: PathBuf,
        /// Override a key of the config.
        #[arg(long = "set", value_name = "KEY=VALUE")]
        set: Vec<String>,
        /// The state folder of its run.
        #[arg(long, value_name = "DIR")]
        state: PathBuf,
        /// List what is asked for, and no more.
        #[arg(long)]
        list: bool,
        /// List it as JSON lines.
        #[arg(long)]
        json: bool,
        /// A file of answers, CSV or JSON Lines, with the columns of id and label.
        #[arg(long, value_name = "FILE", conflicts_with_all = ["list", "json"])]
        answers: Option<PathBuf>,
    },
    /// How a pipeline and its link are doing: last commit, outbox, edges, versions. It may be running.
    Status {
        /// The pipeline's config.
        config: PathBuf,
        /// Override a key of the config.
        #[arg(long = "set", value_name = "KEY=VALUE")]
        set: Vec<String>,
        /// The state folder of its run.
        #[arg(long, value_name = "DIR")]
        state: PathBuf,
        /// Print JSON instead of tables.
        #[arg(long)]
        json: bool,
    },
    /// List what has left an edge for the cloud, or waits to: when, how much, to whom, with what fields.
    Audit {
        /// The state folder of the edge's run.
        #[arg(long, value_name = "DIR")]
        state: PathBuf,
        /// Begin at this number.
        #[arg(long, value_name = "N", default_value_t = 0)]
        from: u64,
        /// Print JSON lines.
        #[arg(long)]
        json: bool,
    },
    /// Check a config against its source, and describe_graph the graph.
    Validate {
        /// The pipeline's config.
        config: PathBuf,
        /// Override a key of the config.
        #[arg(long = "set", value_name = "KEY=VALUE")]
        set: Vec<String>,
    },
    /// Print the JSON Schema of configs, for editors.
    Schema,
    /// Look into a knowledge base.
    Kb {
        #[command(subcommand)]
        command: KbCommand,
        /// The state folder of a run.
        #[arg(long, value_name = "DIR", global = true)]
        state: Option<PathBuf>,
        /// Print JSON instead of tables.
        #[arg(long, global = true)]
        json: bool,
    },
}

/// Runs the program: status 0 when done, 2 for bad arguments or a bad config, 1 for anything else.
pub fn main() -> ExitCode {
    end_with_the_first_panic();
    let arguments = Arguments::parse();
    init_logs(arguments.log_json);
    match execute(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => render(&error),
    }
}

/// A worker that is gone leaves the others waiting for it: the process ends, and the next one goes on after
/// the last commit.
fn end_with_the_first_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
}

fn init_logs(json: bool) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    if json {
        logs.json().init();
    } else {
        logs.init();
    }
}

fn execute(command: Command) -> Result<(), Error> {
    match command {
        Command::Run {
            config,
            set,
            state,
            report,
            workers,
        } => {
            let settings = settings(&config, &set)?;
            run_command(&settings, state, report.as_deref(), usize::from(workers))
        }
        Command::Produce { config, set } => produce_command(&settings(&config, &set)?),
        Command::Bench {
            config,
            set,
            workers,
            records,
            seconds,
            report,
        } => {
            let findings = bench(&bench::BenchOptions {
                config: &config,
                set: &set,
                workers,
                records,
                seconds: seconds.into(),
            })?;
            print(&findings.tables());
            report.map_or(Ok(()), |file| findings.write(&file))
        }
        Command::Evaluate {
            config,
            set,
            sequence,
            slices,
            seed,
            json,
            output,
        } => {
            let findings = evaluate(
                &settings(&config, &set)?,
                &evaluate::EvaluateOptions {
                    attributes: sequence.as_deref(),
                    slices,
                    seed,
                    output: output.as_deref(),
                },
            )?;
            print(&match json {
                true => findings.json()?,
                false => findings.tables(),
            });
            Ok(())
        }
        Command::Label {
            config,
            set,
            state,
            list,
            json,
            answers,
        } => {
            let options = label::LabelOptions {
                list,
                json,
                answers: answers.as_deref(),
            };
            label::label(&settings(&config, &set)?, &state, &options)
        }
        Command::Status {
            config,
            set,
            state,
            json,
        } => status(&settings(&config, &set)?, &state, json),
        Command::Audit { state, from, json } => audit(&state, from, json),
        Command::Validate { config, set } => {
            print(&describe_graph(&settings(&config, &set)?)?);
            Ok(())
        }
        Command::Schema => {
            let schema = schemars::schema_for!(Config);
            let text =
                serde_json::to_string_pretty(&schema).map_err(|e| Error::Failed(e.into()))?;
            print(&format!("{text}\n"));
            Ok(())
        }
        Command::Kb {
            command,
            state,
            json,
        } => {
            let state = state.ok_or_else(|| {
                Error::NotFound("give the state folder of a run: --state DIR".to_string())
            })?;
            kb::execute(command, &state, json)
        }
    }
}

fn settings(config: &Path, set: &[String]) -> Result<Settings, Error> {
    Ok(Settings::try_from(load(config, set)?)?)
}
