//! Checks of a model's outputs: their shape, and that they are probabilities or numbers.

use ndarray::{ArrayView1, ArrayView2};

/// Tolerance of the sum of a row's probabilities from 1. Rounding to 32 bits stays below it.
const TOLERANCE: f32 = 1e-3;

/// Whether a tensor of this shape has `rows` rows of `width` values. That of a number may lack the
/// dimension of columns.
pub fn has_shape(shape: &[i64], rows: usize, width: usize) -> bool {
    let is = |length: i64, wanted: usize| usize::try_from(length) == Ok(wanted);
    match *shape {
        [length] => width == 1 && is(length, rows),
        [length, columns] => is(length, rows) && is(columns, width),
        _ => false,
    }
}

/// The first row that is no distribution over classes, or no finite number, and why.
///
/// A score is proper only of a distribution: a model that gives every class the probability 1 would
/// lose nothing on any sample.
pub fn first_bad(outputs: ArrayView2<'_, f32>) -> Option<(usize, String)> {
    let is_number = outputs.ncols() == 1;
    outputs
        .rows()
        .into_iter()
        .enumerate()
        .find_map(|(at, row)| {
            let problem = match is_number {
                true => number_problem(row),
                false => probabilities_problem(row),
            };
            Some((at, problem?))
        })
}

fn number_problem(row: ArrayView1<'_, f32>) -> Option<String> {
    let number = row.iter().find(|number| !number.is_finite())?;
    Some(format!("it gives {number}, which is no finite number"))
}

fn probabilities_problem(row: ArrayView1<'_, f32>) -> Option<String> {
    let mut sum = 0.0;
    for (class, &probability) in row.iter().enumerate() {
        // NaN is in no range.
        if !(0.0..=1.0 + TOLERANCE).contains(&probability) {
            return Some(format!(
                "it gives {probability} for class {class}, which is no probability"
            ));
        }
        sum += probability;
    }
    let is_whole = (sum - 1.0).abs() <= TOLERANCE;
    (!is_whole).then(|| format!("its probabilities add up to {sum} and not to 1"))
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn only_distributions_are_good() {
        let bad = |row: [f32; 3]| first_bad(array![[0.2, 0.3, 0.5], row].view());
        assert_eq!(bad([0.0, 1.0, 0.0]), None);
        assert_eq!(bad([0.3333, 0.3333, 0.3333]), None);
        for (row, why) in [
            ([1.0, 1.0, 1.0], "add up to 3 and not to 1"),
            ([0.1, 0.1, 0.1], "and not to 1"),
            ([1.5, -0.5, 0.0], "1.5 for class 0, which is no probability"),
            ([0.5, f32::NAN, 0.5], "NaN for class 1"),
            ([f32::INFINITY, 0.0, 0.0], "inf for class 0"),
        ] {
            let (at, found) = bad(row).expect("it is bad");
            assert!(at == 1 && found.contains(why), "{row:?}: {found}");
        }
    }

    #[test]
    fn only_finite_numbers_are_good() {
        assert_eq!(first_bad(array![[1e30], [-7.0]].view()), None);
        let (at, why) = first_bad(array![[0.0], [f32::NEG_INFINITY]].view()).expect("it is bad");
        assert_eq!(
            (at, why.as_str()),
            (1, "it gives -inf, which is no finite number")
        );
    }
}
