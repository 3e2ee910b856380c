//! Distances between feature vectors, in standard deviations of each feature.

/// Adds to `to`, row by row, the squared difference of `column` and `value` in units of which
/// `scale` is the inverse: nothing where one of them is missing. Returns whether any difference was
/// not zero.
///
/// It has no branches, so that it compiles to vector instructions.
pub(crate) fn add_squares(column: &[f32], value: f32, scale: f32, to: &mut [f32]) -> bool {
    let mut any = 0;
    for (sum, other) in to.iter_mut().zip(column) {
        let difference = (other - value) * scale;
        let square = if difference.is_nan() {
            0.0
        } else {
            difference * difference
        };
        *sum += square;
        any |= square.to_bits();
    }
    any != 0
}

/// Inverse of each standard deviation; 0 for a feature that does not vary.
pub(crate) fn scales(deviations: &[f32]) -> Vec<f32> {
    let inverse = |deviation: &f32| {
        let inverse = deviation.recip();
        if inverse.is_normal() && inverse > 0.0 {
            inverse
        } else {
            0.0
        }
    };
    deviations.iter().map(inverse).collect()
}
