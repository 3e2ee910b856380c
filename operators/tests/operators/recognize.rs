//! Recognition of unseen samples: calibrated p-values, and distances from known tasks.

use std::collections::BTreeMap;

use perennial_operators::algorithms::recognize::METHODS;
use perennial_operators::algorithms::recognize::{
    Calibrator, EpochScores, NoveltyScores, Reference, ReferenceSample, Scratch,
};
use perennial_operators::{Epoch, TaskId, priority};
use proptest::prelude::*;

/// A pseudo-random number between 0 and 1.
fn chance(number: u64) -> f32 {
    (priority(number) >> 40) as f32 / (1_u64 << 24) as f32
}

fn scores(number: u64) -> NoveltyScores {
    std::array::from_fn(|method| chance(number * 31 + method as u64).powi(method as i32 + 1))
}

#[test]
fn p_values_are_uniform_on_known_samples() {
    let mut calibrator = Calibrator::default();
    for epoch in 0..80 {
        let of_epoch = (0..256).map(|row| scores(epoch * 256 + row));
        calibrator.add(Epoch(epoch), of_epoch.collect());
    }
    let calibration = calibrator.calibration().expect("a calibration");
    let fresh = 1_000_000..1_100_000_u64;
    for method in 0..=METHODS {
        for rate in [0.005, 0.01, 0.05_f32] {
            let low = fresh
                .clone()
                .filter(|number| calibration.p(method, scores(*number)[method]).unwrap() <= rate);
            let share = low.count() as f32 / 100_000.0;
            // Most of it is the sampling error of the calibration's 16,384 samples.
            assert!(
                (share / rate - 1.0).abs() < 0.2,
                "{method}: {share} at {rate}"
            );
        }
        assert_eq!(calibration.p(method, f32::NAN), None);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn calibration_resumes_from_committed_changes(sizes in prop::collection::vec(0..257_usize, 1..120)) {
        let mut whole = Calibrator::default();
        let mut stored: BTreeMap<Epoch, EpochScores> = BTreeMap::new();
        for (epoch, size) in sizes.iter().enumerate() {
            let epoch = Epoch(epoch as u64);
            let of_epoch: Vec<NoveltyScores> =
                (0..*size as u64).map(|row| scores(epoch.0 * 1000 + row)).collect();
            let mut resumed = Calibrator::restore(stored.clone());
            prop_assert_eq!(resumed.calibration(), whole.calibration());
            let moved = whole.add(epoch, of_epoch.clone());
            prop_assert_eq!(&resumed.add(epoch, of_epoch), &moved);
            stored.insert(epoch, moved.0);
            for left in moved.1 {
                prop_assert!(stored.remove(&left).is_some());
            }
        }
    }
}

/// Samples of two tasks, around (0, 0) and (10, 10), whose two features nearly always agree; a
/// third feature is noise.
fn two_tasks() -> Vec<(TaskId, [f32; 3])> {
    let samples = (0..400_u64).map(|number| {
        let task = 1 + number % 2;
        let at = 10.0 * (task - 1) as f32;
        let along = 4.0 * (chance(7 * number) - 0.5);
        let across = chance(7 * number + 1) - 0.5;
        let noise = 100.0 * chance(7 * number + 2);
        (TaskId(task), [at + along, at + along + across, noise])
    });
    samples.collect()
}

fn reference(samples: &[(TaskId, [f32; 3])]) -> Reference {
    let samples: Vec<ReferenceSample<'_>> = samples
        .iter()
        .map(|(task, features)| ReferenceSample {
            task: *task,
            features,
        })
        .collect();
    Reference::of(&samples, |task| Some(format!("task {}", task.0).into())).unwrap()
}

#[test]
fn nearness_follows_the_samples_of_a_task() {
    let samples = two_tasks();
    let reference = reference(&samples);
    let mut scratch = Scratch::default();
    let mut near = |features: [f32; 3]| reference.nearness(&features, true, &mut scratch);
    let usual = near([0.5, 0.5, 50.0]);
    assert_eq!(&*reference.tasks[usual.task].name, "task 1");
    assert_eq!(
        &*reference.tasks[near([11.0, 11.0, 50.0]).task].name,
        "task 2"
    );
    // Between the tasks, and off the line on which both features agree, though each alone is usual.
    for strange in [near([5.0, 5.0, 50.0]), near([1.0, -1.0, 50.0])] {
        assert!(
            strange.density > 4.0 * usual.density,
            "{strange:?} {usual:?}"
        );
        assert!(strange.nearest > usual.nearest, "{strange:?} {usual:?}");
    }
    // The mean is about 1; shrinkage lowers it where samples hardly vary.
    let mean: f32 = samples
        .iter()
        .map(|(_, features)| near(*features).density)
        .sum();
    let mean = mean / samples.len() as f32;
    assert!((0.7..1.05).contains(&mean), "{mean}");
    assert!(reference.shrinkage < 0.1, "{}", reference.shrinkage);
}

#[test]
fn missing_features_are_no_outliers() {
    let samples = two_tasks();
    let reference = reference(&samples);
    let mut scratch = Scratch::default();
    let mut near = |features: [f32; 3]| reference.nearness(&features, true, &mut scratch);
    let usual = near([0.5, 0.5, 50.0]);
    for missing in [
        [f32::NAN, 0.5, 50.0],
        [0.5, f32::NAN, f32::NAN],
        [f32::NAN; 3],
    ] {
        let nearness = near(missing);
        assert!(
            nearness.density <= usual.density.max(1.0),
            "{missing:?}: {nearness:?}"
        );
        assert!(
            nearness.nearest <= usual.nearest.max(0.1),
            "{missing:?}: {nearness:?}"
        );
    }
}

#[test]
fn marks_of_missing_values_do_not_disable_a_feature() {
    let plain = two_tasks();
    let clean = reference(&plain);
    for mark in [-9999.0, 1e12, 1e38] {
        let mut samples = plain.clone();
        samples[3].1[0] = mark;
        let marked = reference(&samples);
        let mut scratch = Scratch::default();
        for features in [[0.5, 0.5, 50.0], [30.0, 0.5, 50.0], [mark, 0.5, 50.0]] {
            let expected = clean.nearness(&features, true, &mut scratch);
            let found = marked.nearness(&features, true, &mut scratch);
            assert!(found.density.is_finite(), "{found:?}");
            let ratio = (found.density + 1.0) / (expected.density + 1.0);
            assert!(
                (0.8..1.25).contains(&ratio),
                "{mark}: {found:?} {expected:?}"
            );
        }
    }
}

#[test]
fn covariance_exists_for_few_samples_of_many_features() {
    let samples: Vec<Vec<f32>> = (0..12_u64)
        .map(|number| {
            (0..40)
                .map(|feature| chance(number * 100 + feature))
                .collect()
        })
        .collect();
    let samples: Vec<ReferenceSample<'_>> = samples
        .iter()
        .map(|features| ReferenceSample {
            task: TaskId(5),
            features,
        })
        .collect();
    let reference = Reference::of(&samples, |_| None).unwrap();
    assert!(reference.shrinkage > 0.5, "{}", reference.shrinkage);
    let nearness = reference.nearness(&[0.5; 40], true, &mut Scratch::default());
    assert!(nearness.density.is_finite() && nearness.nearest.is_finite());
    assert!(Reference::of(&[], |_| None).is_none());
}
