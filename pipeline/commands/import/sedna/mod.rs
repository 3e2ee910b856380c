//! `perennial import sedna`: a config for a `LifelongLearningJob`.
//!
//! The job says when to train and where. What columns there are is Python in its image, so the file
//! of samples and some arguments say that.

mod configs;
mod learning;
mod resources;
mod rows;

use std::fmt::Write;
use std::path::{Path, PathBuf};

use clap::Args;

use self::configs::Sections;
use self::learning::{job_sections, left_out};
use self::resources::{Dataset, Found};
use self::rows::{ADDED, write_copy};
use crate::commands::init::{InitArguments, file_sections, scalar};
use crate::error::Error;
use crate::terminal::print;

/// Arguments of the command.
#[derive(Args)]
pub(crate) struct SednaArguments {
    /// YAML or JSON with the job and its dataset, as `kubectl get ll,dataset -o yaml` prints them.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// The file of samples: CSV with a header. Default: that of the dataset.
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// Columns that tell tasks apart: ATTRIBUTES in Sedna's DATACONF.
    #[arg(long, value_name = "COLUMN,…", value_delimiter = ',', required = true)]
    attributes: Vec<String>,
    /// Column with the label: LABEL in Sedna's DATACONF.
    #[arg(long, value_name = "COLUMN")]
    label: String,
    /// Column that is unique in each sample.
    #[arg(long, value_name = "COLUMN")]
    id: Option<String>,
    /// Column with the time of a sample.
    #[arg(long, value_name = "COLUMN")]
    time: Option<String>,
    /// Column with the place that a sample was taken at; each gets a task of its own.
    #[arg(long, value_name = "COLUMN")]
    site: Option<String>,
    /// The time zone of the training's node, such as +08:00.
    #[arg(long, value_name = "±HH:MM", allow_hyphen_values = true, value_parser = utc_offset)]
    utc_offset: Option<i64>,
    /// Write a copy of the samples with id, time and site, where they are missing.
    #[arg(long, value_name = "FILE.csv")]
    write: Option<PathBuf>,
    /// Write two configs into this folder in place of one: an edge that predicts, and a cloud that
    /// trains for it. For jobs that are trained on one node and deployed on another.
    #[arg(long, value_name = "DIR")]
    edge_cloud: Option<PathBuf>,
}

/// Prints a config for the job.
pub(super) fn import_sedna(arguments: &SednaArguments) -> Result<(), Error> {
    let found = resources::read(&arguments.files)?;
    let data = match (&arguments.data, &found.dataset) {
        (Some(data), _) => data.clone(),
        (None, Some(dataset)) => local_file(dataset)?,
        (None, None) => {
            let message = "the job's Dataset is not in the files: give it too, or the samples: --data FILE.csv";
            return Err(Error::Arguments(message.to_string()));
        }
    };
    let has_times = arguments.time.is_some() || arguments.write.is_none();
    let offset = arguments.utc_offset;
    let learned = job_sections(&found.name, &found.job, offset, has_times)?;
    let mut roles = InitArguments {
        label: Some(arguments.label.clone()),
        id: arguments.id.clone(),
        time: arguments.time.clone(),
        site: arguments.site.clone(),
        attributes: Some(arguments.attributes.clone()),
        ..InitArguments::default()
    };
    if let Some(copy) = &arguments.write {
        write_copy(&data, copy, &site_of(&found))?;
        let [id, time, site] = ADDED.map(|name| Some(name.to_string()));
        roles.id = roles.id.or(id);
        roles.time = roles.time.or(time);
        roles.site = roles.site.or(site);
    }
    let file = arguments.write.as_ref().unwrap_or(&data);
    let [source, schema] = file_sections(&roles, file).map_err(|error| match error {
        Error::Arguments(message) if arguments.write.is_none() => Error::Arguments(format!(
            "{message}; --write FILE.csv writes a copy of the samples that has id, time and site"
        )),
        error => error,
    })?;
    let files = arguments.files.iter();
    let files: Vec<String> = files.map(|file| file.display().to_string()).collect();
    let sections = Sections {
        from: files.join(" and "),
        name: found.name.clone(),
        source,
        schema,
        tasks: tasks(arguments),
        job: learned,
        left_out: comments(&left_out(&found.job, arguments.edge_cloud.is_some())),
    };
    match &arguments.edge_cloud {
        Some(folder) => sections.write_edge_and_cloud(folder),
        None => {
            print(&sections.one_pipeline());
            Ok(())
        }
    }
}

/// Comments that list what was not carried over.
fn comments(left: &[(String, String)]) -> String {
    let mut text = String::new();
    if !left.is_empty() {
        text.push_str("\n# Not carried over:\n");
    }
    for (path, what) in left {
        let _ = writeln!(text, "#   spec.{path}: {}", what.replace('\n', " "));
    }
    text
}

/// The section `tasks`: a task for each combination of attributes, and below it one for each site
/// if a column tells the site.
fn tasks(arguments: &SednaArguments) -> String {
    let attributes: Vec<String> = arguments
        .attributes
        .iter()
        .map(|name| scalar(name))
        .collect();
    let site = arguments.site.as_ref();
    let site = site.map_or(String::new(), |site| format!(", [{}]", scalar(site)));
    format!(
        "# Each combination of attributes is a task, as in Sedna.\ntasks:\n  path: [[{}]{site}]\n",
        attributes.join(", ")
    )
}

/// The file of a dataset, if it is one that is on this machine.
fn local_file(dataset: &Dataset) -> Result<PathBuf, Error> {
    let Dataset { url, format, .. } = dataset;
    if format != "csv" {
        return Err(Error::Arguments(format!(
            "the dataset's format is \"{format}\": only csv can be carried over. Give the samples as a CSV file with a \
             header: --data FILE.csv"
        )));
    }
    let path = Path::new(url.strip_prefix("file://").unwrap_or(url));
    if url.contains("://") && !url.starts_with("file://") {
        return Err(Error::Arguments(format!(
            "the samples are at {url}: fetch them, and give the file: --data FILE.csv"
        )));
    }
    if !path.exists() {
        return Err(Error::Arguments(format!(
            "the samples of the dataset are at {url} of the node \"{}\": fetch them, and give the file: --data FILE.csv",
            dataset.node_name
        )));
    }
    Ok(path.to_path_buf())
}

/// The site of all samples where no column tells it: the node of the dataset, or the job's name.
fn site_of(found: &Found) -> String {
    let dataset = found.dataset.as_ref();
    let node = dataset.map(|dataset| dataset.node_name.clone());
    node.filter(|node| !node.is_empty())
        .unwrap_or_else(|| found.name.clone())
}

/// An offset such as `+08:00` in minutes.
fn utc_offset(text: &str) -> Result<i64, String> {
    let parsed = || {
        let (sign, clock) = match text.split_at_checked(1)? {
            ("+", clock) => (1, clock),
            ("-", clock) => (-1, clock),
            _ => return None,
        };
        let (hours, minutes) = clock.split_once(':')?;
        let (hours, minutes): (i64, i64) = (hours.parse().ok()?, minutes.parse().ok()?);
        let is_valid = (0..=14).contains(&hours) && (0..60).contains(&minutes);
        is_valid.then_some(sign * (hours * 60 + minutes))
    };
    parsed().ok_or_else(|| "expected a sign, hours and minutes, such as +08:00".to_string())
}
