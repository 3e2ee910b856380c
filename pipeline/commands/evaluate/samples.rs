//! The labelled samples of a stream, all in memory, since each is used several times.

use std::sync::Arc;

use ndarray::Array2;
use perennial_connectors::source::{Simulator, Source};
use perennial_operators::{Batch, Dictionary};

use crate::config::Settings;
use crate::error::Error;
use crate::input::sources::open_file;

/// Number of records read at a time.
const CHUNK: usize = 8192;

/// Labelled samples, column by column, in the order of the stream.
pub struct Samples {
    /// Number of each sample in the stream, from 0, where samples without a label count too.
    pub numbers: Vec<u64>,
    /// Event times, microseconds since 1970.
    pub times: Vec<i64>,
    /// Attribute columns, in the order of the schema, as codes of `dictionaries`.
    pub attributes: Vec<Vec<u32>>,
    /// Values of the codes, by attribute column.
    pub dictionaries: Arc<Vec<Dictionary>>,
    /// One row a sample, one column a feature.
    pub features: Array2<f32>,
    /// Class numbers, or numbers.
    pub labels: Vec<f32>,
    /// Number of records of the stream, good and bad.
    pub records: u64,
    /// Number of samples without a label, which are left out.
    pub unlabelled: u64,
    /// Number of unusable records.
    pub bad: u64,
}

impl Samples {
    /// Reads the source of a config to its end.
    pub fn read(settings: &Settings) -> Result<Samples, Error> {
        let mut source = open(settings)?;
        let mut columns = Columns::default();
        let mut position = 0;
        loop {
            let read = source.read(CHUNK)?;
            if read.batch.generation > 0 {
                let message = "an evaluation holds all samples in memory, and these have too many \
                               values of one attribute";
                return Err(Error::Failed(message.into()));
            }
            columns.bad += read.dead_letters.len() as u64;
            columns.add(&read.batch);
            if read.position == position {
                break;
            }
            position = read.position;
        }
        columns.finish(settings, position)
    }

    /// Value of an attribute of a row; empty when missing.
    pub fn attribute(&self, column: usize, row: usize) -> &str {
        self.dictionaries[column].value(self.attributes[column][row])
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Features of some rows.
    pub fn matrix(&self, rows: &[usize]) -> Array2<f32> {
        self.features.select(ndarray::Axis(0), rows)
    }
}

fn open(settings: &Settings) -> Result<Box<dyn Source>, Error> {
    let source = &settings.config().source;
    if source.kafka.is_some() {
        let message = "an evaluation reads its samples from a file or the simulator: write those of \
                       the topic to a file, and set source.path to it";
        return Err(settings.loaded.error("source.kafka", message).into());
    }
    let Some(simulated) = &source.simulator else {
        return open_file(settings);
    };
    if simulated.records.is_none() {
        let message = "missing: an evaluation needs a stream with an end";
        let key = "source.simulator.records";
        return Err(settings.loaded.error(key, message).into());
    }
    Ok(Box::new(Simulator::new(simulated.clone())?))
}

/// Columns of [`Samples`] that are being read.
#[derive(Default)]
struct Columns {
    numbers: Vec<u64>,
    times: Vec<i64>,
    attributes: Vec<Vec<u32>>,
    dictionaries: Arc<Vec<Dictionary>>,
    features: Vec<f32>,
    labels: Vec<f32>,
    unlabelled: u64,
    bad: u64,
}

impl Columns {
    fn add(&mut self, batch: &Batch) {
        self.attributes
            .resize_with(batch.attributes.len(), Vec::new);
        // All codes are of one generation, so that the latest dictionaries contain them all.
        self.dictionaries = batch.dictionaries.clone();
        for row in 0..batch.len() {
            let label = batch.labels.get(row).copied().unwrap_or(f32::NAN);
            if label.is_nan() {
                self.unlabelled += 1;
                continue;
            }
            self.numbers.push(batch.sequence(row));
            self.times.push(batch.times[row]);
            for (column, codes) in self.attributes.iter_mut().zip(&batch.attributes) {
                column.push(codes[row]);
            }
            self.features.extend(batch.features.row(row));
            self.labels.push(label);
        }
    }

    fn finish(self, settings: &Settings, records: u64) -> Result<Samples, Error> {
        let shape = (self.labels.len(), settings.features());
        Ok(Samples {
            features: Array2::from_shape_vec(shape, self.features)
                .map_err(|error| Error::Failed(error.into()))?,
            numbers: self.numbers,
            times: self.times,
            attributes: self.attributes,
            dictionaries: self.dictionaries,
            labels: self.labels,
            records,
            unlabelled: self.unlabelled,
            bad: self.bad,
        })
    }
}
