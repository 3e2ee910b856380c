//! A simulator: a seeded stream of samples of sites in contexts. How labels depend on the sensors
//! differs between contexts and between sites, and drifts.
//!
//! Sample `i` is a pure function of the settings and `i`, so any worker can compute any part in any
//! order.

mod config;
mod random;
mod rows;
#[cfg(test)]
mod tests;
mod world;

use std::ops::Range;
use std::sync::Arc;

use ndarray::Array2;
use perennial_operators::{Batch, Texts};

pub use self::config::{Drift, DriftKind, SimulatedLabel, SimulatorConfig};
use self::random::Random;
pub use self::rows::open_rows;
use self::world::{Weights, World};
use super::{Read, Source, SourceError};

/// A simulated stream. Clones are cheap, so that several workers can compute parts of it.
#[derive(Clone, Debug)]
pub struct Simulator {
    config: SimulatorConfig,
    world: Arc<World>,
    start: i64,
    position: u64,
}

impl Simulator {
    /// The stream of a config.
    ///
    /// # Errors
    /// A setting cannot be used: the first such one.
    pub fn new(config: SimulatorConfig) -> Result<Simulator, SourceError> {
        if let Some((key, reason)) = config.problems("simulator").into_iter().next() {
            return Err(SourceError::Setting { key, reason });
        }
        let start = config.start_micros().unwrap_or_default();
        Ok(Simulator {
            world: Arc::new(World::new(&config)),
            config,
            start,
            position: 0,
        })
    }

    /// The samples of a range of sequence numbers within the stream, always with labels.
    pub fn fill(&self, range: Range<u64>) -> Batch {
        let end = range
            .end
            .min(self.config.records.unwrap_or(u64::MAX))
            .max(range.start);
        let rows = (end - range.start) as usize;
        let width = self.config.features;
        let mut ids = Texts::default();
        let mut times = Vec::with_capacity(rows);
        let mut attributes: Vec<Vec<u32>> = (0..3).map(|_| Vec::with_capacity(rows)).collect();
        let mut features = Vec::with_capacity(rows * width);
        let mut labels = Vec::with_capacity(rows);
        let mut weights = Weights::default();
        for sequence in range.start..end {
            let mut random = Random::of(self.config.seed, sequence);
            let site = self.world.site(&self.config, sequence, &mut random);
            let codes = self.world.codes(site);
            self.world.turn(&self.config, sequence, &mut weights);
            ids.push_with(|text| push_id(text, sequence));
            let since = (sequence as i64).saturating_mul(self.config.interval_us as i64);
            times.push(self.start.saturating_add(since));
            for (column, code) in attributes.iter_mut().zip(codes) {
                column.push(code);
            }
            labels.push(self.world.sample(
                &self.config,
                site,
                &weights,
                &mut random,
                &mut features,
            ));
        }
        Batch {
            first: range.start,
            ids,
            times,
            attributes,
            dictionaries: self.world.dictionaries.clone(),
            generation: 0,
            // The lengths match: each sample adds one row.
            features: Array2::from_shape_vec((rows, width), features)
                .unwrap_or_else(|_| Array2::from_elem((rows, width), f32::NAN)),
            labels,
            metadata: None,
        }
    }
}

impl Source for Simulator {
    fn read(&mut self, records: usize) -> Result<Read, SourceError> {
        let batch = self.fill(self.position..self.position.saturating_add(records as u64));
        self.position += batch.len() as u64;
        let ended = self
            .config
            .records
            .is_some_and(|records| self.position >= records);
        Ok(Read {
            batch,
            dead_letters: Vec::new(),
            position: self.position,
            ended,
        })
    }

    fn count(&mut self) -> Result<Option<u64>, SourceError> {
        Ok(self.config.records)
    }

    fn skip_to(&mut self, position: u64) -> Result<(), SourceError> {
        let source_name = || "the simulator".to_owned();
        if position < self.position {
            return Err(SourceError::Backwards {
                source_name: source_name(),
                at: self.position,
                position,
            });
        }
        match self.config.records {
            Some(count) if position > count => Err(SourceError::Shorter {
                source_name: source_name(),
                position,
                count,
            }),
            _ => {
                self.position = position;
                Ok(())
            }
        }
    }
}

/// Appends an id such as `r0000000123`. General formatting would take as long as everything else.
fn push_id(text: &mut String, sequence: u64) {
    let mut number = itoa::Buffer::new();
    let digits = number.format(sequence);
    text.push('r');
    text.push_str(&"0000000000"[digits.len().min(10)..]);
    text.push_str(digits);
}
