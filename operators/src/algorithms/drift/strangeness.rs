//! Strangeness: how unusual the features of a task's samples are, summed over an epoch.

use serde::{Deserialize, Serialize};

use crate::data::Losses;

/// Sums are of whole millionths, so that they do not depend on their order.
const UNIT: f64 = 1e6;

/// How strange samples of a task looked in an epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Strangeness {
    /// Samples that were looked at.
    pub count: i64,
    sum: i64,
    squares: i64,
}

impl Strangeness {
    pub(crate) fn add_sample(&mut self, p: f32) {
        let strange = (1.0 - f64::from(p)).clamp(0.0, 1.0);
        self.count += 1;
        self.sum += (strange * UNIT) as i64;
        self.squares += (strange * strange * UNIT) as i64;
    }

    pub(crate) fn add(&mut self, other: &Strangeness) {
        self.count += other.count;
        self.sum += other.sum;
        self.squares += other.squares;
    }

    pub(super) fn losses(&self) -> Losses {
        Losses {
            count: self.count,
            sum: self.sum as f64 / UNIT,
            squares: self.squares as f64 / UNIT,
        }
    }
}
