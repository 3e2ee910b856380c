//! ADWIN: a window over losses that reaches back as long as their mean is the same (Bifet & Gavaldà
//! 2007, "Learning from time-changing data with adaptive windowing", SIAM International Conference
//! on Data Mining, §3 and §4).
//!
//! The window is cut where the means of its two parts differ by more than chance, at the place
//! where they differ most, so that the rest is what came since the change. (The paper drops the
//! oldest part bit by bit.) It is kept as an exponential histogram, in memory that grows with the
//! logarithm of its length. Its input are sums over the labels of an epoch, so it is cut between
//! epochs.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::data::{LabelKind, Losses, Rise};

/// Most buckets of one size; beyond it, the two oldest become one of twice the size. The paper's M.
const BUCKETS: usize = 5;
/// Least number of losses in a part of the window whose mean is compared.
const LEAST: i64 = 5;

/// An adaptive window over the losses of a task.
///
/// ```
/// use perennial_operators::algorithms::drift::Adwin;
/// use perennial_operators::{LabelKind, Losses};
///
/// // Ten labels an epoch; one prediction is wrong, and six from epoch 100 on.
/// let mut window = Adwin::default();
/// let rise = (0..110).find_map(|epoch| {
///     let wrong = if epoch < 100 { 1.0 } else { 6.0 };
///     let losses = Losses { count: 10, sum: wrong, squares: wrong };
///     let rise = window.add(losses, LabelKind::Classes(2), 0.002);
///     rise.map(|rise| (epoch, rise))
/// });
/// let (epoch, rise) = rise.unwrap();
/// assert!((100..105).contains(&epoch));
/// assert_eq!((rise.before, rise.after), (0.1, 0.6));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Adwin {
    /// Rows of buckets. Each row's buckets sum twice as many epochs as those of the row before, and
    /// are older; within a row, the oldest bucket is first.
    rows: Vec<VecDeque<Losses>>,
}

impl Adwin {
    /// Adds the losses of an epoch, and returns a rise if there is one. If losses do not rise, a
    /// rise is reported with a probability of at most `delta`.
    pub fn add(&mut self, losses: Losses, kind: LabelKind, delta: f64) -> Option<Rise> {
        self.insert(losses);
        let mut kept = self.total();
        let mut dropped = Losses::default();
        while let Some(buckets) = self.cut(&kept, kind, delta) {
            for _ in 0..buckets {
                let oldest = self.drop_oldest();
                kept.take(&oldest);
                dropped.add(&oldest);
            }
        }
        (dropped.count > 0 && kept.mean() > dropped.mean()).then(|| Rise {
            before: dropped.mean() as f32,
            after: kept.mean() as f32,
            samples: kept.count,
        })
    }

    /// Sum over the window.
    fn total(&self) -> Losses {
        let mut total = Losses::default();
        for bucket in self.rows.iter().flatten() {
            total.add(bucket);
        }
        total
    }

    /// Adds a bucket, and merges buckets of rows that are full.
    fn insert(&mut self, losses: Losses) {
        let mut carried = Some(losses);
        let mut row = 0;
        while let Some(bucket) = carried.take() {
            if self.rows.len() == row {
                self.rows.push(VecDeque::new());
            }
            let buckets = &mut self.rows[row];
            buckets.push_back(bucket);
            if buckets.len() > BUCKETS
                && let (Some(mut one), Some(other)) = (buckets.pop_front(), buckets.pop_front())
            {
                one.add(&other);
                carried = Some(one);
            }
            row += 1;
        }
    }

    /// Removes the oldest bucket.
    fn drop_oldest(&mut self) -> Losses {
        let dropped = self.rows.last_mut().and_then(VecDeque::pop_front);
        while self.rows.last().is_some_and(VecDeque::is_empty) {
            self.rows.pop();
        }
        dropped.unwrap_or_default()
    }

    /// Number of oldest buckets to drop: those before the place where the means of the two parts
    /// differ most, if they differ by more than chance. `all` is the sum over the window.
    fn cut(&self, all: &Losses, kind: LabelKind, delta: f64) -> Option<usize> {
        let (variance, unit) = (all.variance(), all.unit(kind));
        let confidence = (2.0 * (all.count.max(2) as f64).ln() / delta).ln();
        let mut older = Losses::default();
        let mut best = (1.0, None);
        let oldest_first = self.rows.iter().rev().flatten();
        for (place, bucket) in oldest_first.enumerate() {
            older.add(bucket);
            let mut newer = *all;
            newer.take(&older);
            if newer.count < LEAST {
                break;
            }
            if older.count < LEAST {
                continue;
            }
            // The ε of the paper's §4.1, with the harmonic mean of the parts' lengths.
            let inverse = 1.0 / older.count as f64 + 1.0 / newer.count as f64;
            let chance = (2.0 * inverse * variance * confidence).sqrt()
                + 2.0 / 3.0 * inverse * unit * confidence;
            let ratio = (older.mean() - newer.mean()).abs() / chance;
            if ratio > best.0 {
                best = (ratio, Some(place + 1));
            }
        }
        best.1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELTA: f64 = 0.002;

    fn errors(count: i64, wrong: i64) -> Losses {
        Losses {
            count,
            sum: wrong as f64,
            squares: wrong as f64,
        }
    }

    #[test]
    fn a_rise_is_reported_soon_and_older_losses_are_dropped() {
        let mut window = Adwin::default();
        for _ in 0..200 {
            let rise = window.add(errors(10, 2), LabelKind::Classes(3), DELTA);
            assert_eq!(rise, None);
        }
        assert_eq!(window.total().count, 2000);
        // At an error rate of 0.5, some dozens of labels are enough.
        let rises = (1..30).find_map(|epoch| {
            let rise = window.add(errors(10, 5), LabelKind::Classes(3), DELTA);
            rise.map(|rise| (epoch, rise))
        });
        let (epoch, rise) = rises.unwrap();
        assert!(epoch <= 10, "{epoch}");
        assert!(
            rise.before < 0.25 && rise.after > rise.before + 0.1,
            "{rise:?}"
        );
        for _ in 0..30 {
            window.add(errors(10, 5), LabelKind::Classes(3), DELTA);
        }
        assert!((window.total().mean() - 0.5).abs() < 0.02);
    }

    #[test]
    fn a_fall_cuts_the_window_and_is_not_reported() {
        let mut window = Adwin::default();
        for rate in [5, 1] {
            for _ in 0..200 {
                let rise = window.add(errors(10, rate), LabelKind::Classes(3), DELTA);
                assert_eq!(rise, None);
            }
        }
        assert!(window.total().count < 2500);
    }

    #[test]
    fn memory_grows_with_the_logarithm() {
        let mut window = Adwin::default();
        for _ in 0..100_000 {
            window.add(errors(1, 0), LabelKind::Classes(2), DELTA);
        }
        assert_eq!(window.total().count, 100_000);
        assert!(window.rows.iter().flatten().count() < 100);
    }

    #[test]
    fn the_unit_of_a_number_does_not_matter() {
        let rises = |unit: f64| {
            let mut window = Adwin::default();
            let mut epochs = Vec::new();
            for epoch in 0..300 {
                let error =
                    unit * if epoch < 200 { 1.0 } else { 2.0 } * (1.0 + f64::from(epoch % 3));
                let losses = Losses {
                    count: 1,
                    sum: error,
                    squares: error * error,
                };
                if window.add(losses, LabelKind::Number, DELTA).is_some() {
                    epochs.push(epoch);
                }
            }
            epochs
        };
        assert!(!rises(1.0).is_empty());
        assert_eq!(rises(1.0), rises(1024.0));
    }
}
