//! Cells of a row of the cloud's schema, filled from a shared sample.

use perennial_operators::SharedSamples;

use crate::format::Row;
use crate::schema::{Feature, Schema};

/// The part of a shared sample that a column of the schema is filled from.
#[derive(Clone, Copy)]
pub(super) enum CellSource {
    Id,
    Time,
    Attribute(usize),
    Feature(usize),
    Label,
}

/// The source of a column. A column with several uses is an attribute first, since its text has all
/// that the other uses need.
pub(super) fn cell(schema: &Schema, name: &str) -> CellSource {
    let attribute = schema.attribute_names().position(|known| known == name);
    let mut features = schema.features.iter();
    match attribute.map(CellSource::Attribute) {
        Some(cell) => cell,
        None if name == schema.id => CellSource::Id,
        None if name == schema.time => CellSource::Time,
        None => features
            .position(|feature| feature.column() == name)
            .map_or(CellSource::Label, CellSource::Feature),
    }
}

/// The index that a class or a categorical value encodes, if it is one.
fn index(value: f32) -> Option<usize> {
    (value >= 0.0 && value.fract() == 0.0).then_some(value as usize)
}

/// Fills a row from a shared sample.
pub(super) fn fill(
    row: &mut Row,
    cells: &[CellSource],
    schema: &Schema,
    edge: &str,
    samples: &SharedSamples,
    at: usize,
) {
    row.clear();
    for (number, cell) in cells.iter().enumerate() {
        match cell {
            // Ids need to be unique only at their edge.
            CellSource::Id => match &samples.ids {
                Some(ids) => row.set_written(number, format_args!("{edge}/{}", ids.get(at))),
                None => row.set_written(number, format_args!("{edge}/{}", samples.sequences[at])),
            },
            CellSource::Time => row.set_time(number, samples.times[at]),
            CellSource::Attribute(column) => {
                if let Some(Some(texts)) = samples.attributes.get(*column) {
                    row.set_text(number, texts.get(at));
                }
            }
            CellSource::Feature(column) => {
                let value = samples.features.get(*column).and_then(Option::as_ref);
                let value = value.map_or(f32::NAN, |values| values[at]);
                match &schema.features[*column] {
                    _ if value.is_nan() => {}
                    Feature::Numeric(_) => row.set_number(number, f64::from(value)),
                    Feature::Categorical(categorical) => {
                        let text = index(value).and_then(|value| categorical.values.get(value));
                        row.set_text(number, text.map_or("", String::as_str));
                    }
                }
            }
            CellSource::Label => {
                let label = samples.labels[at];
                let classes = schema.label.as_ref().map(|label| label.classes.as_slice());
                match classes
                    .zip(index(label))
                    .and_then(|(all, label)| all.get(label))
                {
                    Some(class) => row.set_text(number, class),
                    None => row.set_number(number, f64::from(label)),
                }
            }
        }
    }
}
