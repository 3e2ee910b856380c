//! Distances between feature vectors, in units of how much each feature varies.

/// Adds the squares of how far each value is from `value`, nothing where one is missing; whether any was. Without branches,
/// so that it is done many at a time.
pub(crate) fn add_squares(column: &[f32], value: f32, to: &mut [f32]) -> bool {
    let mut any = 0;
    for (sum, other) in to.iter_mut().zip(column) {
        let apart = other - value;
        let square = if apart.is_nan() { 0.0 } else { apart * apart };
        *sum += square;
        any |= square.to_bits();
    }
    any != 0
}

/// For each feature what makes one standard deviation of it 1; 0 where it does not vary.
pub(crate) fn scales(deviations: &[f32]) -> Vec<f32> {
    let scale = |deviation: &f32| match *deviation > 0.0 {
        true => deviation.recip(),
        false => 0.0,
    };
    deviations.iter().map(scale).collect()
}
