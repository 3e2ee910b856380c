//! Differences as a group, and their numbers against plain sums.

use differential_dataflow::difference::{Abelian, IsZero, Monoid, Semigroup};
use perennial_operators::{Moments, Score, TaskDifference};
use proptest::prelude::*;

fn values() -> impl Strategy<Value = Vec<f32>> {
    prop::collection::vec(
        prop_oneof![8 => -1e4..1e4_f32, 1 => Just(f32::NAN), 1 => any::<f32>()],
        0..8,
    )
}

fn scores() -> impl Strategy<Value = Vec<(bool, f32)>> {
    prop::collection::vec(
        (
            any::<bool>(),
            prop_oneof![9 => 0.0..=1.0_f32, 1 => any::<f32>()],
        ),
        0..6,
    )
}

fn score(of: &[(bool, f32)]) -> Score {
    let mut sum = Score::default();
    for (correct, probability) in of {
        sum.add(&Score::one(*correct, *probability));
    }
    sum
}

fn moments(of: &[f32]) -> Moments {
    let mut moments = Moments::default();
    of.iter().for_each(|value| moments.count_value(*value));
    moments
}

fn differences() -> impl Strategy<Value = TaskDifference> {
    (
        -9..9_i64,
        scores(),
        prop::collection::vec(scores(), 0..3),
        prop::collection::vec(-5..5_i64, 0..5),
        prop::collection::vec(values(), 0..4),
        any::<bool>(),
    )
        .prop_map(|(labelled, own, baselines, confusion, columns, negate)| {
            let mut difference = TaskDifference {
                labelled,
                score: score(&own),
                baselines: baselines.iter().map(|scores| score(scores)).collect(),
                confusion,
                labels: columns
                    .first()
                    .map(|values| moments(values))
                    .unwrap_or_default(),
                moments: columns.iter().map(|values| moments(values)).collect(),
            };
            if negate {
                difference.negate();
            }
            difference
        })
}

fn sum(a: &TaskDifference, b: &TaskDifference) -> TaskDifference {
    let mut sum = a.clone();
    sum.plus_equals(b);
    sum
}

fn negated(a: &TaskDifference) -> TaskDifference {
    let mut negated = a.clone();
    negated.negate();
    negated
}

proptest! {
    #[test]
    fn differences_are_an_abelian_group(
        a in differences(),
        b in differences(),
        c in differences(),
    ) {
        prop_assert_eq!(sum(&sum(&a, &b), &c), sum(&a, &sum(&b, &c)));
        prop_assert_eq!(sum(&a, &b), sum(&b, &a));
        prop_assert_eq!(sum(&a, &TaskDifference::zero()), a.clone());
        prop_assert!(sum(&a, &negated(&a)).is_zero());
        prop_assert_eq!(negated(&negated(&a)), a.clone());
        prop_assert!(sum(&sum(&a, &b), &negated(&sum(&b, &a))).is_zero());
        let equal = sum(&a, &negated(&b)).is_zero();
        prop_assert!(!equal || (a.labelled, a.score) == (b.labelled, b.score));
        // Trailing zeros of a column do not count.
        let mut longer = a.clone();
        longer.confusion.resize(9, 0);
        longer.moments.resize(9, Moments::default());
        longer.baselines.resize(9, Score::default());
        prop_assert!(sum(&longer, &negated(&a)).is_zero());
        prop_assert!(sum(&a, &negated(&longer)).is_zero());
        longer.confusion[8] = 1;
        prop_assert!(!sum(&longer, &negated(&a)).is_zero());
    }

    #[test]
    fn scores_add_up_separately(a in differences(), b in differences()) {
        let mut scores = a.scores();
        scores.plus_equals(&b.scores());
        prop_assert_eq!(scores, sum(&a, &b).scores());
        prop_assert_eq!((scores.labelled, scores.score), (a.labelled + b.labelled, sum(&a, &b).score));
        scores.negate();
        scores.plus_equals(&sum(&a, &b).scores());
        prop_assert!(scores.is_zero());
    }

    #[test]
    fn encoding_round_trips(difference in differences()) {
        let bytes = postcard::to_stdvec(&difference).unwrap();
        let read: TaskDifference = postcard::from_bytes(&bytes).unwrap();
        prop_assert_eq!(read, difference);
    }

    #[test]
    fn scores_are_plain_sums(of in prop::collection::vec((any::<bool>(), 1e-6..=1.0_f32), 1..200)) {
        let got = score(&of);
        let right = of.iter().filter(|(correct, _)| *correct).count();
        let count = of.len() as f64;
        let loss: f64 = of.iter().map(|(_, p)| -f64::from(*p).ln()).sum();
        prop_assert_eq!(got.accuracy(), Some(right as f64 / count));
        // Half a step of 2⁻³² each, and the plain sum's own rounding.
        let step = 0.5 / f64::from(2.0_f32.powi(32)) + 1e-12;
        prop_assert!((got.log_loss().unwrap() - loss / count).abs() <= step);
    }

    #[test]
    fn moments_are_plain_sums(
        of in prop::collection::vec(prop_oneof![9 => -1e3..1e3_f32, 1 => Just(f32::NAN)], 1..200),
    ) {
        let got = moments(&of);
        let known: Vec<f64> = of.iter().filter(|v| !v.is_nan()).map(|v| f64::from(*v)).collect();
        prop_assert_eq!(got.count, known.len() as i64);
        if known.is_empty() {
            prop_assert_eq!((got.mean(), got.variance()), (None, None));
            return Ok(());
        }
        let count = known.len() as f64;
        let mean = known.iter().sum::<f64>() / count;
        let variance = known.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / count;
        let step = 0.5 / f64::from(1 << 20);
        prop_assert!((got.mean().unwrap() - mean).abs() <= step + 1e-9);
        // Each square is off by at most a step times twice the greatest value, and so is the
        // mean's.
        prop_assert!((got.variance().unwrap() - variance).abs() <= 4e3 * step + 1e-6);
    }

    #[test]
    fn losses_and_variances_stay_in_range(of in prop::collection::vec(any::<f32>(), 0..50), correct: bool) {
        let got = moments(&of);
        if let Some(variance) = got.variance() {
            prop_assert!(variance >= 0.0 && got.mean().unwrap().is_finite());
        }
        for probability in of {
            let loss = Score::one(correct, probability).log_loss().unwrap();
            prop_assert!((0.0..=35.0).contains(&loss), "{probability} costs {loss}");
        }
    }
}

#[test]
fn extreme_values_saturate() {
    let infinite = moments(&[f32::INFINITY, f32::NEG_INFINITY]);
    assert_eq!((infinite.count, infinite.mean()), (2, Some(0.0)));
    // Saturated at ±2⁴².
    assert_eq!(
        moments(&[f32::MAX]).mean(),
        Some(f64::from(2.0_f32.powi(42)))
    );
    assert_eq!(
        moments(&[f32::MIN]).mean(),
        Some(-f64::from(2.0_f32.powi(42)))
    );
    assert_eq!(moments(&vec![f32::MAX; 3000]).count, 3000);
    let least = -(1e-15_f64.ln());
    for probability in [f32::NAN, 0.0, -1.0, f32::NEG_INFINITY, 1e-30] {
        let loss = Score::one(false, probability).log_loss().unwrap();
        assert!((loss - least).abs() < 1e-6, "{probability}: {loss}");
    }
    assert_eq!(Score::one(true, f32::INFINITY).log_loss(), Some(0.0));
    assert_eq!(
        (Score::default().accuracy(), Score::default().log_loss()),
        (None, None)
    );
}

#[test]
fn single_value_is_encoded_short() {
    let length = |of: &[f32]| postcard::to_stdvec(&moments(of)).unwrap().len();
    // Two equal values have the same sum of squares up to one bit.
    assert!(length(&[123.4]) + 6 < length(&[123.4, 123.4]));
}
