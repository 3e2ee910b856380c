//! Strangeness: how unusual the features of a task's samples are, summed over an epoch.
//!
//! The strangeness of a sample is 1 − its p-value by
//! [density](crate::algorithms::recognize::Method): uniform from 0 to 1 among samples like earlier
//! ones, and higher where features drift away.

use serde::{Deserialize, Serialize};

use crate::data::Losses;

/// The number 1 in the sums, which count whole millionths: sums of integers do not depend on the
/// order of the terms.
const UNIT: f64 = 1e6;

/// Strangeness of some samples of a task in an epoch, summed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Strangeness {
    /// Number of samples with a p-value.
    pub count: i64,
    sum: i64,
    squares: i64,
}

impl Strangeness {
    /// Adds a sample with this p-value.
    pub(crate) fn add_sample(&mut self, p: f32) {
        let strangeness = (1.0 - f64::from(p)).clamp(0.0, 1.0);
        self.count += 1;
        self.sum += (strangeness * UNIT) as i64;
        self.squares += (strangeness * strangeness * UNIT) as i64;
    }

    /// Adds other samples.
    pub(crate) fn add(&mut self, other: &Strangeness) {
        self.count += other.count;
        self.sum += other.sum;
        self.squares += other.squares;
    }

    /// Strangeness as losses from 0 to 1, for a detector.
    pub(super) fn losses(&self) -> Losses {
        Losses {
            count: self.count,
            sum: self.sum as f64 / UNIT,
            squares: self.squares as f64 / UNIT,
        }
    }
}
