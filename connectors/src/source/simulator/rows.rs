//! The simulator's samples as records.

use perennial_operators::Batch;

use super::{Simulator, SimulatorConfig};
use crate::format::Row;
use crate::schema::Feature;
use crate::source::Source;
use crate::source::error::SourceError;
use crate::source::rows::{Next, Rows};

/// Samples computed at a time.
const CHUNK: usize = 1024;

/// The column of the simulator's batches that a cell is filled from.
#[derive(Clone, Copy)]
enum Part {
    Id,
    Time,
    Attribute(usize),
    Feature(usize),
    Label,
}

struct SimulatedRows {
    simulator: Simulator,
    batch: Batch,
    next: usize,
    parts: Vec<Part>,
    /// Empty if the label is a number.
    classes: Vec<String>,
}

/// Opens a simulated stream as records with the given columns.
pub fn open_rows(
    config: SimulatorConfig,
    columns: &[String],
) -> Result<Box<dyn Rows>, SourceError> {
    let schema = config.schema();
    let mut known = vec![(schema.id.as_str(), Part::Id), (&schema.time, Part::Time)];
    let attributes = schema.attribute_names().enumerate();
    known.extend(attributes.map(|(at, name)| (name, Part::Attribute(at))));
    let features = schema.features.iter().map(Feature::column).enumerate();
    known.extend(features.map(|(at, name)| (name, Part::Feature(at))));
    known.extend(
        schema
            .label
            .iter()
            .map(|label| (label.column.as_str(), Part::Label)),
    );
    let mut parts = Vec::with_capacity(columns.len());
    for column in columns {
        let Some((_, part)) = known.iter().find(|(name, _)| name == column) else {
            let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
            return Err(SourceError::Setting {
                key: "produce.simulator".into(),
                reason: format!(
                    "the simulator has no column {column:?}, which the schema names, but {}",
                    names.join(", ")
                ),
            });
        };
        parts.push(*part);
    }
    Ok(Box::new(SimulatedRows {
        parts,
        classes: schema.label.map(|label| label.classes).unwrap_or_default(),
        simulator: Simulator::new(config)?,
        batch: Batch::default(),
        next: 0,
    }))
}

impl Rows for SimulatedRows {
    fn next(&mut self, row: &mut Row) -> Result<Next, SourceError> {
        if self.next == self.batch.len() {
            self.batch = self.simulator.read(CHUNK)?.batch;
            self.next = 0;
            if self.batch.is_empty() {
                return Ok(Next::End);
            }
        }
        let (batch, at) = (&self.batch, self.next);
        self.next += 1;
        row.clear();
        for (cell, part) in self.parts.iter().enumerate() {
            match *part {
                Part::Id => row.set_text(cell, batch.ids.get(at)),
                Part::Time => row.set_time(cell, batch.times[at]),
                Part::Attribute(column) => row.set_text(cell, batch.attribute(column, at)),
                Part::Feature(column) => {
                    let value = batch.features[[at, column]];
                    if !value.is_nan() {
                        row.set_number(cell, value.into());
                    }
                }
                Part::Label if self.classes.is_empty() => {
                    row.set_number(cell, batch.labels[at].into());
                }
                // Class numbers are small whole numbers.
                Part::Label => {
                    if let Some(class) = self.classes.get(batch.labels[at] as usize) {
                        row.set_text(cell, class);
                    }
                }
            }
        }
        Ok(Next::Record)
    }
}
