//! Section `schema`: the columns of a sample.

use perennial_connectors::schema::Schema;

use super::places::{Places, did_you_mean};
use super::{ConfigError, SourceConfig};

/// The section, or the columns of the simulator.
pub(super) fn schema(
    given: Option<&Schema>,
    source: &SourceConfig,
    places: &Places,
) -> Result<Schema, ConfigError> {
    let schema = match (given, &source.simulator) {
        (Some(_), Some(_)) => {
            return Err(places.error("schema", "the simulator brings its own: remove this"));
        }
        (None, None) => {
            return Err(places.error("schema", "missing: it names the columns of source.path"));
        }
        (Some(schema), None) => schema.clone(),
        (None, Some(simulator)) => simulator.schema(),
    };
    places.require_none(schema.problems())?;
    Ok(schema)
}

/// The column of the attribute `name`, or an error text if there is none.
pub fn find_attribute(schema: &Schema, name: &str) -> Result<usize, String> {
    let names: Vec<&str> = schema.attribute_names().collect();
    let found = names.iter().position(|known| *known == name);
    found.ok_or_else(|| {
        format!(
            "\"{name}\" is not an attribute of the schema{} (expected: {})",
            did_you_mean(name, &names),
            names.join(", ")
        )
    })
}
