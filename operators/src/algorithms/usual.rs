//! Usual values of a feature or a label, and their mean and deviation.
//!
//! Meters and programs write marks such as -9999 or 1e12 where they have no value. A single one of
//! them decides mean and variance, in whose unit the feature then hardly varies any more. Such
//! marks lie far outside, with nothing in between. So the distances of all values from their median
//! are sorted, and the usual ones end before the first distance that is [`GAP`] times the one
//! before. A long tail has no such gap and stays whole.

/// A distance from the median that is this many times the next smaller one ends the usual values.
const GAP: f64 = 20.0;
/// Share of the values that are usual in any case.
const LEAST_SHARE: f64 = 0.9;
/// With fewer values, all are usual: gaps between few values are wide by chance.
const LEAST_VALUES: usize = 20;

/// Range of the usual values around their median.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UsualRange {
    median: f64,
    reach: f64,
}

impl UsualRange {
    /// Range of the usual ones of some values. Those that are not finite do not count.
    pub fn of(values: impl Iterator<Item = f32>) -> Self {
        let mut values: Vec<f64> = values.map(f64::from).filter(|v| v.is_finite()).collect();
        let whole = UsualRange {
            median: 0.0,
            reach: f64::MAX,
        };
        if values.len() < LEAST_VALUES {
            return whole;
        }
        let half = values.len() / 2;
        let median = *values.select_nth_unstable_by(half, f64::total_cmp).1;
        values
            .iter_mut()
            .for_each(|value| *value = (*value - median).abs());
        values.sort_unstable_by(f64::total_cmp);
        let first = (values.len() as f64 * LEAST_SHARE) as usize;
        let outer = &values[first - 1..];
        let gap = outer
            .windows(2)
            .find(|pair| pair[0] > 0.0 && pair[1] > GAP * pair[0]);
        gap.map_or(whole, |pair| UsualRange {
            median,
            reach: pair[0],
        })
    }

    /// Whether a value is usual; NaN is not.
    pub fn contains(&self, value: f32) -> bool {
        (f64::from(value) - self.median).abs() <= self.reach
    }
}

/// Mean and standard deviation of the usual values of a feature.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// Range of these values.
    pub usual: UsualRange,
    /// Mean, 0 without values.
    pub mean: f64,
    /// Population standard deviation.
    pub deviation: f64,
}

impl Spread {
    /// Spread of some values with their weights; NaN = missing.
    pub fn of<I: Iterator<Item = (f32, f64)>>(values: impl Fn() -> I) -> Self {
        let usual = UsualRange::of(values().map(|(value, _)| value));
        let values = || {
            let usual = values().filter(|(value, _)| usual.contains(*value));
            usual.map(|(value, weight)| (f64::from(value), weight))
        };
        let total = values().map(|(_, weight)| weight).sum::<f64>();
        let total = if total > 0.0 { total } else { 1.0 };
        let mean = values().map(|(value, weight)| weight * value).sum::<f64>() / total;
        let squares = values().map(|(value, weight)| weight * (value - mean).powi(2));
        Spread {
            usual,
            mean,
            deviation: (squares.sum::<f64>() / total).sqrt(),
        }
    }

    /// Deviation, or 0 where it is below the precision of floats: the feature does not vary.
    pub fn varies_by(&self) -> f64 {
        if self.deviation > self.mean.abs() * 1e-6 {
            self.deviation
        } else {
            0.0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(values: &[f32]) -> Spread {
        Spread::of(|| values.iter().map(|value| (*value, 1.0)))
    }

    fn readings() -> Vec<f32> {
        (0..1000)
            .map(|at| 20.0 + (at % 100) as f32 / 10.0)
            .collect()
    }

    #[test]
    fn marks_of_no_value_do_not_count() {
        let clean = spread(&readings());
        for mark in [-9999.0, 9999.0, 1e12, f32::MAX, f32::MIN] {
            let mut values = readings();
            values.extend([mark; 50]);
            let found = spread(&values);
            assert!(!found.usual.contains(mark));
            assert!(
                (found.deviation / clean.deviation - 1.0).abs() < 1e-9,
                "{mark}: {found:?}"
            );
        }
        // Two kinds of marks at once.
        let mut values = readings();
        values.extend([-9999.0, -9999.0, 1e12]);
        assert!((spread(&values).deviation / clean.deviation - 1.0).abs() < 1e-9);
    }

    #[test]
    fn long_tails_stay_whole() {
        // Rain: mostly none, and now and then a cloudburst.
        let rain: Vec<f32> = (0..1000)
            .map(|at| {
                if at % 20 == 0 {
                    1.2_f32.powi(at / 20) * 0.01
                } else {
                    0.0
                }
            })
            .collect();
        assert!(
            rain.iter()
                .all(|value| spread(&rain).usual.contains(*value))
        );
        // A rare event is no mark.
        let rare: Vec<f32> = (0..1000)
            .map(|at| if at == 7 { 1.0 } else { 0.0 })
            .collect();
        assert!(spread(&rare).usual.contains(1.0));
        assert!(spread(&[1.0, 2.0, 9999.0]).usual.contains(9999.0));
    }

    #[test]
    fn small_and_large_units_vary_alike() {
        for unit in [1e-12, 1.0, 1e15] {
            let values: Vec<f32> = readings().iter().map(|value| value * unit).collect();
            let found = spread(&values).varies_by() / f64::from(unit);
            assert!((found - 2.8866).abs() < 1e-3, "{unit}: {found}");
        }
        assert_eq!(spread(&[0.1; 50]).varies_by(), 0.0);
        assert_eq!(spread(&[]).mean, 0.0);
    }
}
