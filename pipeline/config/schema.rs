//! Section `schema`: the columns of a sample.

use perennial_connectors::schema::Schema;

use super::places::nearest;
use super::{ConfigError, ConfigFile};

pub(crate) fn schema(loaded: &ConfigFile) -> Result<Schema, ConfigError> {
    let config = &loaded.config;
    let schema = match (&config.schema, &config.source.simulator) {
        (Some(_), Some(_)) => {
            return Err(loaded.error("schema", "the simulator brings its own: remove this"));
        }
        (None, None) => {
            return Err(loaded.error("schema", "missing: it names the columns of source.path"));
        }
        (Some(schema), None) => schema.clone(),
        (None, Some(simulator)) => simulator.schema(),
    };
    match schema.problems().into_iter().next() {
        Some((path, message)) => Err(loaded.error(&path, message)),
        None => Ok(schema),
    }
}

/// The column of the attribute with this name, or what to say if there is none.
pub fn find_attribute(schema: &Schema, name: &str) -> Result<usize, String> {
    let names: Vec<&str> = schema.attribute_names().collect();
    names
        .iter()
        .position(|known| *known == name)
        .ok_or_else(|| {
            let hint = nearest(name, &names)
                .map(|near| format!("; did you mean \"{near}\"?"))
                .unwrap_or_default();
            format!(
                "\"{name}\" is not an attribute of the schema{hint} (expected: {})",
                names.join(", ")
            )
        })
}
