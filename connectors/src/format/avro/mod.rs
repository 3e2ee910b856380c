//! Avro messages, written straight into the row: plain ones, whose schema is given, and those in the
//! format of Confluent's serializers, whose schemas are in a registry.

mod error;
#[cfg(test)]
mod tests;
mod writer;

use std::fmt;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

pub use self::error::AvroError;
use self::writer::Writer;
use super::Row;
use super::registry::Registry;

/// The schemas of a registry that are kept ready. A topic has a few; what goes beyond is fetched anew.
const KEPT: usize = 256;

/// How long a schema id that was refused is not asked for again.
const REFUSED_FOR: Duration = Duration::from_secs(10);

/// The refused schema ids that are remembered.
const REFUSED: usize = 1024;

/// A message of the registry's format: the byte 0, the schema's id in four bytes, the record.
const HEADER: usize = 5;

/// Reads Avro records into rows. Fields that are no column are passed over.
///
/// Enums become texts; `timestamp-*`, `local-timestamp-*` (taken as UTC) and `date` become times,
/// `decimal` numbers (texts beyond 2^53) and `uuid` texts. Null is a missing value. A wanted field with
/// bytes, a list, a map or a record makes the record bad.
#[derive(Debug)]
pub struct AvroParser {
    columns: Vec<String>,
    writers: Writers,
}

/// Where the schemas that the messages were written with come from.
#[derive(Debug)]
enum Writers {
    One(Box<Writer>),
    Registered(Registered),
}

/// The schemas of a registry.
struct Registered {
    registry: Registry,
    known: Vec<(u32, Writer)>,
    /// Why and since when an id was refused.
    refused: FxHashMap<u32, (String, Instant)>,
}

impl AvroParser {
    /// A parser of messages that hold one record each and nothing else, written with `schema` (the JSON
    /// of an `.avsc` file), for rows with these columns as cells. Says in a sentence what is wrong with
    /// the schema, for instance that it lacks a column.
    pub fn plain(schema: &str, columns: &[String]) -> Result<AvroParser, String> {
        let writer = Writer::new(schema, &[], columns)
            .map_err(|reason| format!("the Avro schema cannot be used: {reason}"))?;
        Ok(AvroParser {
            columns: columns.to_vec(),
            writers: Writers::One(Box::new(writer)),
        })
    }

    /// A parser of messages in the format of Confluent's serializers, for rows with these columns as
    /// cells. Each schema is fetched from the registry when its first message comes, by the thread
    /// that parses it.
    pub fn registered(registry: Registry, columns: &[String]) -> AvroParser {
        AvroParser {
            columns: columns.to_vec(),
            writers: Writers::Registered(Registered {
                registry,
                known: Vec::new(),
                refused: FxHashMap::default(),
            }),
        }
    }

    /// Fills the row from one message. After an error the row holds nothing of use, and after
    /// [`AvroError::Retry`] the same message is to be parsed again.
    pub fn parse(&mut self, message: &[u8], row: &mut Row) -> Result<(), AvroError> {
        row.clear();
        let columns = &self.columns;
        let (writer, datum) = match &mut self.writers {
            Writers::One(writer) => (&**writer, message),
            Writers::Registered(registered) => {
                let (id, datum) = split(message).map_err(AvroError::Bad)?;
                (registered.writer(id, columns)?, datum)
            }
        };
        writer.read(datum, columns, row).map_err(AvroError::Bad)
    }
}

/// The schema id of a message and its record.
fn split(message: &[u8]) -> Result<(u32, &[u8]), String> {
    match message {
        [0, a, b, c, d, datum @ ..] => Ok((u32::from_be_bytes([*a, *b, *c, *d]), datum)),
        [] | [0, ..] => Err(format!(
            "the message has {} bytes, less than the {HEADER} before an Avro record",
            message.len()
        )),
        [first, ..] => Err(format!(
            "the message begins with the byte {first}, not with the 0 before a schema id"
        )),
    }
}

impl Registered {
    /// The schema with this id, fetched if it is not known.
    fn writer(&mut self, id: u32, columns: &[String]) -> Result<&Writer, AvroError> {
        let known = self.known.iter().position(|(known, _)| *known == id);
        let at = match known {
            Some(at) => at,
            None => {
                let writer = self.fetch(id, columns)?;
                if self.known.len() >= KEPT {
                    self.known.clear();
                }
                self.known.push((id, writer));
                self.known.len() - 1
            }
        };
        Ok(&self.known[at].1)
    }

    fn fetch(&mut self, id: u32, columns: &[String]) -> Result<Writer, AvroError> {
        if let Some((reason, since)) = self.refused.get(&id)
            && since.elapsed() < REFUSED_FOR
        {
            return Err(AvroError::Bad(reason.clone()));
        }
        let fetched = self.registry.schema(id).and_then(|registered| {
            Writer::new(&registered.schema, &registered.references, columns).map_err(|reason| {
                AvroError::Bad(format!("the Avro schema {id} cannot be used: {reason}"))
            })
        });
        if let Err(AvroError::Bad(reason)) = &fetched {
            if self.refused.len() >= REFUSED {
                self.refused.clear();
            }
            self.refused.insert(id, (reason.clone(), Instant::now()));
        }
        fetched
    }
}

impl fmt::Debug for Registered {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("Registered")
            .field("registry", &self.registry)
            .field("known", &self.known.len())
            .field("refused", &self.refused.len())
            .finish()
    }
}
