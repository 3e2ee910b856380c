//! Recognition of unseen samples: scores, their calibration to p-values, and the verdict.

mod calibration;
mod method;
mod recognized;
mod reference;

pub(crate) use self::calibration::MOST_OF_EPOCH;
pub use self::calibration::{Calibration, Calibrator, EpochScores, NoveltyScores};
pub(crate) use self::method::entropy;
pub(crate) use self::method::probability;
pub use self::method::{METHODS, Method};
pub use self::recognized::{RecognitionRules, Recognized, UnseenAnswer};
pub use self::reference::{KnownTask, Nearness, Reference, ReferenceSample, Scratch};
