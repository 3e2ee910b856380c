//! The load of the pipeline on trial: the records of the config's section `produce`, over and over.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use perennial_connectors::format::Row;
use perennial_connectors::kafka::Health;
use perennial_connectors::sink::kafka::Feed;
use perennial_connectors::source::{Next, Rows};

use super::options::check;
use crate::commands::produce::{Needs, open_feed, open_rows};
use crate::config::Settings;
use crate::error::Error;

/// Time between two looks at whether to stop during a wait.
const LOOK: Duration = Duration::from_millis(100);

/// An endless stream of samples.
pub(super) struct Load {
    settings: Settings,
    rows: Box<dyn Rows>,
    /// Number of times that all records have been sent.
    round: u64,
    /// Whether a record has been sent in this round.
    has_sent: bool,
    row: Row,
    /// The cell of the id.
    id_cell: usize,
    id: String,
    feed: Feed,
    stop: Arc<AtomicBool>,
}

impl Load {
    /// Opens the records and the topics that the settings name.
    pub fn open(settings: &Settings, stop: Arc<AtomicBool>) -> Result<Load, Error> {
        let needs = Needs::of(settings)?;
        let columns = settings.schema.columns();
        let id = settings.schema.id.as_str();
        Ok(Load {
            rows: open_rows(settings, needs.config)?,
            round: 0,
            has_sent: false,
            row: Row::new(columns.len()),
            id_cell: columns.iter().position(|column| *column == id).unwrap_or(0),
            id: String::new(),
            feed: open_feed(settings, &needs, Health::default(), stop.clone())?,
            settings: settings.clone(),
            stop,
        })
    }

    /// Sends a number of samples, at `rate` if it is given.
    pub fn send(&mut self, samples: u64, rate: Option<f64>) -> Result<(), Error> {
        let began = Instant::now();
        for number in 0..samples {
            if let Some(rate) = rate {
                // The moment of each sample counts from the beginning, so that delays do not add
                // up.
                let since = Duration::from_secs_f64(number as f64 / rate);
                self.feed.wait(began + since)?;
            }
            check(&self.stop)?;
            self.send_next()?;
        }
        Ok(())
    }

    /// Waits until everything that was sent has arrived.
    pub fn finish(&mut self) -> Result<(), Error> {
        self.feed.send_last_labels()?;
        while !self.feed.drain(LOOK) {
            check(&self.stop)?;
        }
        Ok(self.feed.check()?)
    }

    /// Sends the next good record.
    fn send_next(&mut self) -> Result<(), Error> {
        loop {
            self.next()?;
            if self.feed.send(&self.row)?.is_ok() {
                self.has_sent = true;
                return Ok(());
            }
        }
    }

    /// Reads the next record. In later rounds it gets an id of its own.
    fn next(&mut self) -> Result<(), Error> {
        loop {
            match self.rows.next(&mut self.row)? {
                Next::Record => break,
                Next::Bad(_) => {}
                Next::End if self.has_sent => {
                    self.rows = open_rows(&self.settings, Needs::of(&self.settings)?.config)?;
                    self.round += 1;
                    self.has_sent = false;
                }
                Next::End => {
                    let message = "there are no records to send in what \"produce\" names";
                    return Err(Error::NotFound(message.to_string()));
                }
            }
        }
        if self.round > 0 {
            let mut id = std::mem::take(&mut self.id);
            let mut scratch = String::new();
            id.clear();
            id.push_str(self.row.get(self.id_cell).text(&mut scratch));
            // Writing to a String cannot fail.
            let _ = write!(id, "-{}", self.round + 1);
            self.row.set_text(self.id_cell, &id);
            self.id = id;
        }
        Ok(())
    }
}
