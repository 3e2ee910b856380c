//! Where samples come from: files and the simulator, behind one trait.
//!
//! A source gives records in a fixed order. Bad ones become dead letters, they never stop the stream,
//! and every record, good or bad, counts in the *position*, so that a run can be resumed exactly.

mod decode;
pub mod edges;
mod error;
pub mod file;
pub mod kafka;
mod rows;
pub mod simulator;

use perennial_operators::Batch;
use perennial_operators::flow::DeadLetter;

pub use self::decode::Decoder;
pub use self::error::SourceError;
pub use self::rows::{Next, Rows};
pub use self::simulator::{Drift, DriftKind, SimulatedLabel, Simulator, SimulatorConfig};

/// A stream of samples that can be replayed from any position.
pub trait Source: Send {
    /// Consumes the next `records` records, good or bad; fewer only at the end of the stream or before
    /// a place that cannot be read. That failure is then what the next call returns.
    fn read(&mut self, records: usize) -> Result<Read, SourceError>;

    /// How many records, good and bad, a bounded source has in all; `None` if it has no end. A file
    /// may be read through for it once.
    fn count(&mut self) -> Result<Option<u64>, SourceError>;

    /// Continues after the first `position` records of the stream as if they had been read: sequence
    /// numbers, attribute codes and the detection of duplicates are those of an undisturbed run. It
    /// only goes forward.
    fn skip_to(&mut self, position: u64) -> Result<(), SourceError>;
}

/// What one call of [`Source::read`] gave.
#[derive(Clone, Debug)]
pub struct Read<B = Batch> {
    /// The good records as columns.
    pub batch: B,
    /// The bad records, in their order.
    pub dead_letters: Vec<DeadLetter>,
    /// Records of the stream consumed so far, good and bad.
    pub position: u64,
    /// Whether the source knows that nothing follows. A file that ends exactly here is only found to
    /// have ended by the next, empty read.
    pub ended: bool,
}
