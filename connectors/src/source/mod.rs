//! Sources of samples and labels: files and the simulator behind the trait [`Source`], and topics
//! of Kafka and samples that edges share, whose positions are offsets, each with a type of its own.
//!
//! A source returns records in a fixed order. A bad record becomes a dead letter and never stops
//! the stream. Every record, good or bad, counts in the *position*, so that a run resumes exactly.

mod continuity;
mod decode;
pub mod edges;
mod error;
pub mod file;
pub mod kafka;
mod profile;
mod rows;
pub mod simulator;
mod task_numbers;

use perennial_operators::Batch;
use perennial_operators::flow::DeadLetter;

pub use self::continuity::OnGone;
pub use self::decode::Decoder;
pub use self::error::SourceError;
pub use self::profile::{ColumnProfile, Profile, profile, values_within};
pub use self::rows::{Next, Rows};
pub use self::simulator::{Drift, DriftKind, SimulatedLabel, Simulator, SimulatorConfig};

/// A stream of samples that can be replayed from any position.
pub trait Source: Send {
    /// Reads the next `records` records, good or bad; fewer only at the end of the stream or before
    /// a failure, which the next call then returns.
    fn read(&mut self, records: usize) -> Result<Read, SourceError>;

    /// Number of all records, good and bad; `None` if the source has no end. This may read a file
    /// from start to end once.
    fn count(&mut self) -> Result<Option<u64>, SourceError>;

    /// Resumes after the first `position` records of the stream as if they had been read: sequence
    /// numbers, attribute codes and known ids are those of an uninterrupted run. A source cannot go
    /// backwards.
    fn skip_to(&mut self, position: u64) -> Result<(), SourceError>;
}

/// Result of one call of [`Source::read`].
#[derive(Clone, Debug)]
pub struct Read<B = Batch> {
    /// The good records as columns.
    pub batch: B,
    /// The bad records, in their order.
    pub dead_letters: Vec<DeadLetter>,
    /// Records of the stream read so far, good and bad.
    pub position: u64,
    /// Whether the source knows that nothing follows. A file that ends exactly here reports it only
    /// with the next, empty read.
    pub ended: bool,
}
