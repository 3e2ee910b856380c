//! Drift detectors: ADWIN and Page-Hinkley on losses, and ADWIN on the strangeness of features.
//!
//! Losses need labels; features show drift without any.

mod adwin;
mod detectors;
mod page_hinkley;
mod strangeness;

pub use self::adwin::Adwin;
pub use self::detectors::{Detector, Detectors, DriftDetected, DriftMoved, DriftRules};
pub use self::page_hinkley::{PageHinkley, PageHinkleyRules};
pub use self::strangeness::Strangeness;
