//! `perennial init`: looks at a file or a topic, and prints a config for it.

mod ask;
mod draft;
mod label;
mod roles;

use std::path::{Path, PathBuf};

use clap::Args;
use perennial_connectors::kafka::KafkaConfig;
use perennial_connectors::source::file::{self, FileConfig};
use perennial_connectors::source::kafka::TopicSample;
use perennial_connectors::source::{Profile, Rows, profile, values_within};

use self::draft::Draft;
pub(super) use self::draft::{epoch_records, scalar};
use self::roles::ColumnRoles;
use crate::error::Error;
use crate::terminal::print;

/// Bound on the records of a file that are looked at.
const MOST_RECORDS: u64 = 1_000_000;
/// Bound on the messages of a topic that are looked at.
const MOST_MESSAGES: usize = 100_000;

/// Arguments of the command.
#[derive(Args, Default)]
pub(crate) struct InitArguments {
    /// A file of samples: CSV, JSON Lines or Parquet.
    #[arg(conflicts_with = "topic")]
    pub(super) file: Option<PathBuf>,
    /// A topic of samples instead, as JSON objects.
    #[arg(long, value_name = "NAME", requires = "brokers")]
    pub(super) topic: Option<String>,
    /// The topic's brokers.
    #[arg(long, value_name = "HOST:PORT,…", requires = "topic")]
    pub(super) brokers: Option<String>,
    /// Column with the label, which is to be predicted.
    #[arg(long, value_name = "COLUMN")]
    pub(super) label: Option<String>,
    /// Column that is unique in each sample.
    #[arg(long, value_name = "COLUMN")]
    pub(super) id: Option<String>,
    /// Column with the time of a sample.
    #[arg(long, value_name = "COLUMN")]
    pub(super) time: Option<String>,
    /// Column with the building, machine or other place that a sample was taken at.
    #[arg(long, value_name = "COLUMN")]
    pub(super) site: Option<String>,
    /// Columns that can tell tasks apart beside the site, such as season or city.
    /// Default: columns of texts with at most 20 values.
    #[arg(long, value_name = "COLUMN,…", value_delimiter = ',')]
    pub(super) attributes: Option<Vec<String>>,
}

/// Where samples are.
enum InitSource<'a> {
    File(&'a Path),
    Topic {
        topic: &'a str,
        brokers: &'a str,
        sample: TopicSample,
    },
}

/// Prints a config for what is found.
pub(super) fn init(arguments: &InitArguments) -> Result<(), Error> {
    let samples = match (&arguments.file, &arguments.topic, &arguments.brokers) {
        (Some(path), _, _) => InitSource::File(path),
        (None, Some(topic), Some(brokers)) => InitSource::open_topic(topic, brokers)?,
        _ => {
            let message = "give a file of samples, or a topic with --topic and --brokers";
            return Err(Error::Arguments(message.to_string()));
        }
    };
    let found = samples.found()?;
    let roles = ColumnRoles::choose(&found, arguments)?;
    let columns = std::iter::once(&roles.site).chain(&roles.attributes);
    let columns: Vec<String> = columns.map(|column| column.name.clone()).collect();
    let within_site = samples.values_within(&columns)?;
    let draft = Draft {
        samples: &samples,
        found: &found,
        roles: &roles,
        within_site,
    };
    print(&draft.text());
    Ok(())
}

/// The sections `source` and `schema` for a file.
pub(super) fn file_sections(arguments: &InitArguments, path: &Path) -> Result<[String; 2], Error> {
    let samples = InitSource::File(path);
    let found = samples.found()?;
    let draft = Draft {
        samples: &samples,
        found: &found,
        roles: &ColumnRoles::choose(&found, arguments)?,
        within_site: Vec::new(),
    };
    Ok([draft.source(), draft.schema()])
}

impl<'a> InitSource<'a> {
    fn open_topic(topic: &'a str, brokers: &'a str) -> Result<InitSource<'a>, Error> {
        let sample = TopicSample::read(&KafkaConfig::new(brokers), topic, MOST_MESSAGES)?;
        if sample.columns().is_empty() && !sample.is_empty() {
            let message = format!(
                "none of the {} messages looked at of the topic \"{topic}\" is a JSON object; for a \
                 topic of Avro, write the config by hand, with source.kafka.format: avro",
                sample.len()
            );
            return Err(Error::Arguments(message));
        }
        Ok(InitSource::Topic {
            topic,
            brokers,
            sample,
        })
    }

    fn name(&self) -> String {
        match self {
            InitSource::File(path) => format!("the file {}", path.display()),
            InitSource::Topic { topic, .. } => format!("the topic \"{topic}\""),
        }
    }

    fn columns(&self) -> Result<Vec<String>, Error> {
        match self {
            InitSource::File(path) => Ok(file::columns(&FileConfig::new(*path))?),
            InitSource::Topic { sample, .. } => Ok(sample.columns()),
        }
    }

    fn rows<'b>(&'b self, columns: &[String]) -> Result<Box<dyn Rows + 'b>, Error> {
        match self {
            InitSource::File(path) => Ok(file::open_rows(&FileConfig::new(*path), columns)?),
            InitSource::Topic { sample, .. } => Ok(Box::new(sample.rows(columns))),
        }
    }

    /// The profile of the records, of which there is at least one.
    fn found(&self) -> Result<Profile, Error> {
        let columns = self.columns()?;
        let found = profile(&mut *self.rows(&columns)?, &columns, MOST_RECORDS)?;
        if found.records == 0 {
            let message = format!(
                "{} has no records, and a config is made from what they are",
                self.name()
            );
            return Err(Error::Arguments(message));
        }
        Ok(found)
    }

    /// The mean number of values of each column after the first, within one value of the first.
    fn values_within(&self, columns: &[String]) -> Result<Vec<f64>, Error> {
        let mut rows = self.rows(columns)?;
        Ok(values_within(&mut *rows, columns.len(), MOST_RECORDS)?)
    }
}
