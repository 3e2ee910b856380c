//! The command line: arguments, and the command that carries them out.

mod audit;
mod bench;
mod demo;
mod evaluate;
mod import;
mod init;
mod kb;
mod label;
mod manuals;
mod produce;
mod run;
mod status;
mod temporary;
mod validate;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use perennial_connectors::files::raise_open_files;
use perennial_connectors::source::file::catches_panics;
use perennial_connectors::trainer::serve_examination;
use tracing_subscriber::EnvFilter;

use self::audit::audit;
use self::bench::{BenchOptions, bench_command};
use self::demo::{DemoArguments, demo};
use self::evaluate::{EvaluateOptions, evaluate_command};
use self::import::{ImportCommand, import};
use self::init::{InitArguments, init};
use self::kb::KbCommand;
use self::label::{LabelOptions, label};
use self::manuals::{completions, manual_pages};
use self::produce::produce_command;
use self::run::run_command;
use self::status::status;
use self::validate::describe_graph;
use crate::config::{Config, Settings, load};
use crate::error::{Error, render};
use crate::run::progress::{self, PROGRESS};
use crate::terminal::{print, print_json};

/// Edge-cloud collaborative lifelong learning as one streaming engine.
#[derive(Parser)]
#[command(version, about, disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Log as JSON lines instead of text, the progress too. What is logged: RUST_LOG, such as
    /// `info` or `perennial=debug`; default: warnings, and progress. `warn` is without progress.
    #[arg(long, global = true)]
    log_json: bool,
}

// Not a doc comment: clap would print it as the help of each command.
//
// The config of a command.
#[derive(Args)]
struct ConfigArguments {
    /// The pipeline's config.
    config: PathBuf,
    /// Override a key of the config: `epoch.records=1024`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl ConfigArguments {
    fn settings(&self) -> Result<Settings, Error> {
        Ok(Settings::try_from(load(&self.config, &self.set)?)?)
    }
}

#[derive(Subcommand)]
enum Command {
    /// Run a pipeline to the end of its stream.
    Run {
        #[command(flatten)]
        config: ConfigArguments,
        /// Folder of the state. A run with the same folder resumes after the last commit.
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
    /// Learn real counts of pedestrians, from before a lockdown to after it, and tell what
    /// happened. It needs no file and no network.
    Demo(DemoArguments),
    /// Look at a file or a topic of samples, and print a config for it. At a terminal it asks for
    /// what names and values do not tell.
    Init(InitArguments),
    /// Print a config for what another system runs.
    Import {
        #[command(subcommand)]
        from: ImportCommand,
    },
    /// Send samples and labels to the topics of a config, as edge sites do. The config's section
    /// `produce` names the samples.
    Produce {
        #[command(flatten)]
        config: ConfigArguments,
    },
    /// Measure a pipeline on topics of its own: records a second, and latency at higher and higher
    /// rates. The config's section `produce` names the samples.
    Bench {
        #[command(flatten)]
        config: ConfigArguments,
        /// Worker threads of the dataflow.
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
        workers: u16,
        /// Number of samples processed at full speed.
        #[arg(long, value_name = "N", default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..))]
        records: u64,
        /// How long each rate is offered.
        #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
        seconds: u32,
        /// Write the findings as JSON.
        #[arg(long, value_name = "FILE.json")]
        report: Option<PathBuf>,
    },
    /// Measure lifelong learning: tasks arrive one after another, and after each, the pipeline and
    /// baselines are tested on every task.
    Evaluate {
        #[command(flatten)]
        config: ConfigArguments,
        /// Attributes whose values are the tasks, in order of first appearance.
        /// Default: the first level of tasks.path.
        #[arg(long, value_name = "ATTRIBUTE,…", conflicts_with = "slices")]
        sequence: Option<String>,
        /// Number of time slices, all of one length, that are the tasks instead.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..))]
        slices: Option<u32>,
        /// Seed of the choice of test samples, a quarter of all.
        #[arg(long, value_name = "N", default_value_t = 1)]
        seed: u64,
        /// Print the findings as JSON instead of tables.
        #[arg(long)]
        json: bool,
        /// Write the findings as JSON, plots of them, and the pipeline's predictions.
        #[arg(long, value_name = "DIR")]
        output: Option<PathBuf>,
    },
    /// Answer the label requests of a pipeline, by hand or from a file. Answers go to the topic
    /// that the pipeline reads labels from. The pipeline may be running.
    Label {
        #[command(flatten)]
        config: ConfigArguments,
        /// The state folder of the pipeline's run.
        #[arg(long, value_name = "DIR")]
        state: PathBuf,
        /// List the requests and do nothing else.
        #[arg(long)]
        list: bool,
        /// List the requests as JSON lines.
        #[arg(long)]
        json: bool,
        /// A file of answers, CSV or JSON Lines, with the columns of id and label.
        #[arg(long, value_name = "FILE", conflicts_with_all = ["list", "json"])]
        answers: Option<PathBuf>,
    },
    /// Show the status of a pipeline and its link: last commit, outbox, edges, versions. The
    /// pipeline may be running.
    Status {
        #[command(flatten)]
        config: ConfigArguments,
        /// The state folder of the pipeline's run.
        #[arg(long, value_name = "DIR")]
        state: PathBuf,
        /// Print JSON instead of tables.
        #[arg(long)]
        json: bool,
    },
    /// List what has left an edge for the cloud, or waits to: when, how much, to whom, with which
    /// fields.
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
    /// Check a config against its source, and draw the graph.
    Validate {
        #[command(flatten)]
        config: ConfigArguments,
        /// Check the config alone, and open neither its source nor its topics.
        #[arg(long)]
        config_only: bool,
    },
    /// Print the JSON Schema of configs, for editors.
    Schema,
    /// Print a script that completes commands in a shell: `source <(perennial completions bash)`.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Write the manual pages.
    #[command(hide = true)]
    Man {
        /// Where to.
        folder: PathBuf,
    },
    /// Run a model from elsewhere on a request from stdin. Perennial starts this itself.
    #[command(hide = true)]
    Examine,
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

/// Runs the program. Status 0 is success, 2 bad arguments or a bad config, 1 anything else.
pub fn main() -> ExitCode {
    abort_after_panic();
    let arguments = Arguments::parse();
    init_logs(arguments.log_json);
    raise_open_files();
    match execute(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => render(&error),
    }
}

/// Lets a panic of any thread end the process. Without one of them, the other workers would wait
/// for ever; the next run resumes after the last commit. A panic that becomes an error does not.
fn abort_after_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if catches_panics() {
            return;
        }
        report(panic);
        std::process::abort();
    }));
}

fn init_logs(json: bool) {
    let default = format!("warn,{PROGRESS}=info");
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    if json {
        progress::never_draw();
        logs.json().init();
    } else {
        logs.init();
    }
}

fn execute(command: Command) -> Result<(), Error> {
    match command {
        Command::Run {
            config,
            state,
            report,
            workers,
        } => run_command(&config.settings()?, state, report.as_deref(), workers).map(drop),
        Command::Demo(arguments) => demo(&arguments),
        Command::Init(arguments) => init(&arguments),
        Command::Import { from } => import(&from),
        Command::Produce { config } => produce_command(&config.settings()?),
        Command::Bench {
            config,
            workers,
            records,
            seconds,
            report,
        } => {
            let options = BenchOptions {
                config: &config.config,
                set: &config.set,
                workers,
                records,
                seconds: seconds.into(),
            };
            bench_command(&options, report.as_deref())
        }
        Command::Evaluate {
            config,
            sequence,
            slices,
            seed,
            json,
            output,
        } => {
            let options = EvaluateOptions {
                attributes: sequence.as_deref(),
                slices,
                seed,
                output: output.as_deref(),
            };
            evaluate_command(&config.settings()?, &options, json)
        }
        Command::Label {
            config,
            state,
            list,
            json,
            answers,
        } => {
            let options = LabelOptions {
                list,
                json,
                answers: answers.as_deref(),
            };
            label(&config.settings()?, &state, &options)
        }
        Command::Status {
            config,
            state,
            json,
        } => status(&config.settings()?, &state, json),
        Command::Audit { state, from, json } => audit(&state, from, json),
        Command::Validate {
            config,
            config_only,
        } => {
            let settings = config.settings()?;
            let found = if config_only {
                format!("{}: the config is valid\n", settings.config().name)
            } else {
                describe_graph(&settings)?
            };
            print(&found);
            Ok(())
        }
        Command::Examine => serve_examination()
            .map_err(|error| Error::File(PathBuf::from("stdin and stdout"), error)),
        Command::Completions { shell } => {
            completions(shell);
            Ok(())
        }
        Command::Man { folder } => manual_pages(&folder),
        Command::Schema => print_json(&schemars::schema_for!(Config)),
        Command::Kb {
            command,
            state,
            json,
        } => {
            let message = "give the state folder of a run: --state DIR";
            let state = state.ok_or_else(|| Error::NotFound(message.to_string()))?;
            kb::execute(command, &state, json)
        }
    }
}
