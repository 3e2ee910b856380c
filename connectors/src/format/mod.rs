//! Records as rows: JSON and Avro, the meaning of single fields, and the schema registry.

mod avro;
pub(crate) mod fields;
mod json;
mod keys;
mod object;
mod registry;
mod row;
mod schemas;
mod times;

pub use self::avro::{AvroError, AvroParser};
pub(crate) use self::fields::quote;
pub use self::json::JsonParser;
pub(crate) use self::keys::KeyList;
pub use self::registry::{RegisteredSchema, Registry};
pub use self::row::{Row, Value};
pub use self::schemas::{greet_registry, wait_for_registry};
pub(crate) use self::schemas::{parser, register, written_schema};
pub(crate) use self::times::TimeParser;
