//! Recognition of unseen samples, those of no known task.
//!
//! [`Method`]s score how novel a sample is, two of them against a [`Reference`] of known samples. A
//! [`Calibration`] turns scores into p-values, so that a configured share of known samples raises a
//! false alarm. [`Recognized`] holds the verdicts.

mod calibration;
mod method;
mod recognized;
mod reference;

pub(crate) use self::calibration::MOST_OF_EPOCH;
pub use self::calibration::{Calibration, Calibrator, EpochScores, NoveltyScores};
pub use self::method::{METHODS, Method};
pub(crate) use self::method::{entropy, probability};
pub use self::recognized::{RecognitionRules, Recognized, UnseenAnswer};
pub use self::reference::{KnownTask, Nearness, Reference, ReferenceSample, Scratch};
