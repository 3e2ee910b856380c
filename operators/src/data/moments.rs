//! Moments of a feature or a label: integer sums, which can be added and retracted.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Feature values are counted in steps of 2⁻²⁰ and saturate at ±2⁴².
pub(super) const FEATURE_STEPS: f64 = (1_u64 << 20) as f64;
pub(super) const FEATURE_LIMIT: f64 = (1_u64 << 62) as f64;

/// Moments of one feature: count, sum and sum of squares of its known values.
///
/// ```
/// use perennial_operators::Moments;
///
/// let mut moments = Moments::default();
/// for value in [1.0, f32::NAN, 3.0] {
///     moments.count_value(value);
/// }
/// assert_eq!((moments.count, moments.mean(), moments.variance()), (2, Some(2.0), Some(1.0)));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moments {
    /// Number of values that were not missing.
    pub count: i64,
    sum: i128,
    squares: i128,
}

/// Moments as they are serialized.
///
/// Most of a small task's moments in an epoch are of a single value. In binary formats its square
/// is subtracted from `squares`: the 0 that is left takes one byte instead of eight.
#[derive(Serialize, Deserialize)]
#[serde(rename = "Moments")]
struct Written {
    count: i64,
    sum: i128,
    squares: i128,
}

impl Serialize for Moments {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let single = self.single(serializer.is_human_readable());
        let written = Written {
            count: self.count,
            sum: self.sum,
            squares: self.squares.wrapping_sub(single),
        };
        written.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Moments {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let readable = deserializer.is_human_readable();
        let written = Written::deserialize(deserializer)?;
        let mut moments = Moments {
            count: written.count,
            sum: written.sum,
            squares: written.squares,
        };
        moments.squares = written.squares.wrapping_add(moments.single(readable));
        Ok(moments)
    }
}

/// Nearest integer, ties to even. On processors without an instruction for it, the standard
/// library's function is a call that costs more than everything else that is done with a value.
#[inline]
pub(super) fn round(value: f64) -> f64 {
    /// Near this number the distance of floats is 1, so that adding it rounds.
    const ONE_APART: f64 = (3_u64 << 51) as f64;
    if value.abs() < (1_u64 << 51) as f64 {
        (value + ONE_APART) - ONE_APART
    } else {
        value.round_ties_even()
    }
}

impl Moments {
    /// Square of a single value, which binary formats omit from `squares`; 0 otherwise.
    fn single(&self, readable: bool) -> i128 {
        if self.count == 1 && !readable {
            self.sum.wrapping_mul(self.sum)
        } else {
            0
        }
    }

    /// Adds one value; NaN is missing and is ignored.
    #[inline]
    pub fn count_value(&mut self, value: f32) {
        if value.is_nan() {
            return;
        }
        let steps =
            round(f64::from(value) * FEATURE_STEPS).clamp(-FEATURE_LIMIT, FEATURE_LIMIT) as i64;
        self.count += 1;
        self.sum += i128::from(steps);
        // The square is at most 2¹²⁴, so that only sums of eight or more such extremes saturate.
        self.squares = self
            .squares
            .saturating_add(i128::from(steps) * i128::from(steps));
    }

    /// Mean, in the feature's unit; none without values.
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum as f64 / FEATURE_STEPS / self.count as f64)
    }

    /// Population variance, in the feature's unit squared; none without values.
    pub fn variance(&self) -> Option<f64> {
        let count = (self.count > 0).then_some(i128::from(self.count))?;
        // In integers where they suffice, so that constant values have a variance of exactly 0.
        let exact = count
            .checked_mul(self.squares)
            .zip(self.sum.checked_mul(self.sum));
        let steps = match exact {
            Some((squares, square)) => (squares - square) as f64 / (count as f64).powi(2),
            None => self.squares as f64 / count as f64 - (self.sum as f64 / count as f64).powi(2),
        };
        Some((steps / (FEATURE_STEPS * FEATURE_STEPS)).max(0.0))
    }

    pub(super) fn add(&mut self, other: &Moments) {
        self.count += other.count;
        self.sum += other.sum;
        self.squares = self.squares.saturating_add(other.squares);
    }

    pub(super) fn negate(&mut self) {
        self.count = -self.count;
        self.sum = -self.sum;
        self.squares = self.squares.saturating_neg();
    }
}

#[cfg(test)]
mod tests {
    use super::round;

    #[test]
    fn round_takes_ties_to_even() {
        let mut value = 1e-3_f64;
        while value < 1e19 {
            for near in [value, value + 0.5, value.floor() + 0.5, value.floor()] {
                for signed in [near, -near] {
                    assert_eq!(round(signed), signed.round_ties_even(), "{signed}");
                }
            }
            value *= 1.37;
        }
        assert!(round(f64::INFINITY).is_infinite());
    }
}
