//! Avro messages parsed straight into a row: plain ones, whose schema is given, and messages in the
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

/// Bound on cached schemas of a registry. A topic has a few; a full cache is emptied.
const KEPT: usize = 256;

/// Time after which a refused schema id is requested again.
const REFUSED_FOR: Duration = Duration::from_secs(10);

/// Bound on remembered refused schema ids.
const REFUSED: usize = 1024;

/// Length of what a message with a schema id has before its record: the byte 0 and four bytes of
/// the id.
const HEADER: usize = 5;

/// Parses Avro records into rows. Fields that are no column are ignored.
///
/// Enums become texts; `timestamp-*`, `local-timestamp-*` (taken as UTC) and `date` become times,
/// `decimal` numbers (texts beyond 2^53) and `uuid` texts. Null is a missing value. A wanted field
/// with bytes, a list, a map or a record makes the record bad.
#[derive(Debug)]
pub struct AvroParser {
    columns: Vec<String>,
    writers: Writers,
}

/// Source of the schemas that the messages were written with.
#[derive(Debug)]
enum Writers {
    One(Box<Writer>),
    Registered(Box<Registered>),
}

/// The schemas of a registry.
struct Registered {
    registry: Registry,
    known: Vec<(u32, Writer)>,
    /// By id: why and when it was refused.
    refused: FxHashMap<u32, (String, Instant)>,
    /// Time limit for the schema of an id that a working registry does not give.
    patience: Duration,
    /// Since when the registry does not give the schema of an id, by id.
    failing: FxHashMap<u32, Instant>,
}

impl AvroParser {
    /// A parser of messages that hold exactly one record, written with `schema` (the JSON of an
    /// `.avsc` file), for rows with `columns` as cells.
    ///
    /// # Errors
    /// The schema cannot be used, for instance since it lacks a column: the reason.
    pub fn plain(schema: &str, columns: &[String]) -> Result<AvroParser, String> {
        let writer = Writer::new(schema, &[], columns)
            .map_err(|reason| format!("the Avro schema cannot be used: {reason}"))?;
        Ok(AvroParser {
            columns: columns.to_vec(),
            writers: Writers::One(Box::new(writer)),
        })
    }

    /// A parser of messages in the format of Confluent's serializers, for rows with `columns` as
    /// cells. The parsing thread fetches each schema from the registry with its first message. An
    /// id whose schema the registry does not give for `patience`, though it gives others, is bad.
    pub fn registered(registry: Registry, columns: &[String], patience: Duration) -> AvroParser {
        AvroParser {
            columns: columns.to_vec(),
            writers: Writers::Registered(Box::new(Registered {
                registry,
                known: Vec::new(),
                refused: FxHashMap::default(),
                patience,
                failing: FxHashMap::default(),
            })),
        }
    }

    /// Fills the row from one message.
    ///
    /// # Errors
    /// The message cannot be parsed; the row is then undefined. After [`AvroError::Retry`] the
    /// caller is to parse the same message again.
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
    /// The schema with an id, fetched if it is not cached.
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
        let fetched = match fetched {
            Err(AvroError::Retry(reason)) => Err(self.give_up(id, reason)),
            fetched => {
                self.failing.remove(&id);
                fetched
            }
        };
        if let Err(AvroError::Bad(reason)) = &fetched {
            if self.refused.len() >= REFUSED {
                self.refused.clear();
            }
            self.refused.insert(id, (reason.clone(), Instant::now()));
        }
        fetched
    }

    /// The error of an id whose schema the registry does not give: it is bad if that has lasted for
    /// the patience and the registry works. A registry that is away is waited for.
    fn give_up(&mut self, id: u32, reason: String) -> AvroError {
        if self.failing.len() >= REFUSED {
            self.failing.clear();
        }
        let since = *self.failing.entry(id).or_insert_with(Instant::now);
        if since.elapsed() < self.patience || !self.works() {
            return AvroError::Retry(reason);
        }
        let seconds = since.elapsed().as_secs();
        AvroError::Bad(format!(
            "{reason}, for {seconds} seconds by now, though it answers other requests"
        ))
    }

    /// Tells whether the registry works: it gives its settings, or a schema that it gave before.
    fn works(&self) -> bool {
        let known = self.known.last();
        self.registry.shows_settings()
            || known.is_some_and(|(id, _)| self.registry.schema(*id).is_ok())
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
