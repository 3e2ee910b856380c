//! Triggers: when a training is ordered.

use perennial_operators::drift::{Detector, Rise};
use perennial_operators::statistics::Standing;
use perennial_operators::trigger::{
    Comparison, Metric, Notice, Schedule, TaskTraining, Trigger, TriggerRules, Watch,
};
use perennial_operators::{DriftDetected, EpochHeader, ModelId, Phase, TaskId, TaskScores};
use proptest::prelude::*;

use crate::support::{difference, header, task};

const SECOND: i64 = 1_000_000;

fn rules(metric: Metric, comparison: Comparison, threshold: f64) -> TriggerRules {
    TriggerRules {
        triggers: vec![Trigger {
            text: "as written".into(),
            metric,
            comparison,
            threshold,
        }],
        schedule: Schedule::default(),
        min_samples: 1,
        min_new_samples: 1,
        min_window: 1,
    }
}

fn watch(rules: TriggerRules) -> Watch {
    Watch::restore(rules, [], 0)
}

fn moved(number: u64, total: TaskScores, window: TaskScores) -> Notice {
    Notice::Moved((task(number), Standing { total, window }))
}

/// A task with a total only.
fn counted(number: u64, total: TaskScores) -> Notice {
    moved(number, total, TaskScores::default())
}

/// Scores of `count` predictions, `right` of them correct, each with this probability of its label.
fn scores(count: usize, right: usize, probability: f32) -> TaskScores {
    let scores: Vec<_> = (0..count).map(|at| (at < right, probability)).collect();
    difference(0, &scores).scores()
}

/// Scores of `count` labels without predictions.
fn labels(count: i64) -> TaskScores {
    difference(count, &[]).scores()
}

/// Whether a task with this total and window is trained, one epoch at `clock`.
fn fires(rules: TriggerRules, total: TaskScores, window: TaskScores, clock: i64) -> bool {
    let state = TaskTraining::ordered(1, 0, 0, false);
    let mut watch = Watch::restore(rules, [(task(7), state)], 0);
    watch.notice(moved(7, total, window));
    !watch.look(&header(1, 10, clock)).is_empty()
}

#[test]
fn metrics_are_what_their_names_say() {
    // Total: 6 of 10 right. Window: 1 of 4 right, each at −ln 0.25 = 1.386… nats.
    let (total, window) = (scores(10, 6, 0.5), scores(4, 1, 0.25));
    for (metric, value) in [
        (Metric::NewSamples, 10.0),
        (Metric::Accuracy, 0.25),
        (Metric::AccuracyDrop, 0.35),
        (Metric::LogLoss, -(0.25_f64.ln())),
        (Metric::ModelAge, 90.0),
    ] {
        let fires = |comparison, threshold| {
            let rules = rules(metric, comparison, threshold);
            fires(rules, total, window, 90 * SECOND)
        };
        assert!(fires(Comparison::Greater, value - 1e-6), "{metric:?}");
        assert!(!fires(Comparison::Greater, value + 1e-6), "{metric:?}");
        assert!(fires(Comparison::Less, value + 1e-6), "{metric:?}");
        assert!(!fires(Comparison::Less, value - 1e-6), "{metric:?}");
    }
}

#[test]
fn comparisons_differ_at_the_threshold() {
    for (comparison, expected) in [
        (Comparison::Greater, false),
        (Comparison::GreaterOrEqual, true),
        (Comparison::Less, false),
        (Comparison::LessOrEqual, true),
    ] {
        let rules = rules(Metric::NewSamples, comparison, 10.0);
        let fired = fires(rules, scores(10, 1, 0.5), scores(1, 1, 0.5), 0);
        assert_eq!(fired, expected, "{comparison:?}");
    }
}

#[test]
fn too_few_samples_do_not_trigger() {
    let always = || rules(Metric::Accuracy, Comparison::GreaterOrEqual, 0.0);
    let fired = |rules| fires(rules, scores(10, 5, 0.5), scores(4, 2, 0.5), 0);
    assert!(fired(always()));
    assert!(fired(TriggerRules {
        min_samples: 10,
        ..always()
    }));
    assert!(!fired(TriggerRules {
        min_samples: 11,
        ..always()
    }));
    assert!(fired(TriggerRules {
        min_window: 4,
        ..always()
    }));
    assert!(!fired(TriggerRules {
        min_window: 5,
        ..always()
    }));
    let gained = |labelled, least| {
        let rules = TriggerRules {
            min_new_samples: least,
            ..always()
        };
        let state = TaskTraining::ordered(3, labelled, 0, false);
        let mut watch = Watch::restore(rules, [(task(7), state)], 0);
        watch.notice(moved(7, scores(10, 5, 0.5), scores(4, 2, 0.5)));
        !watch.look(&header(1, 10, 0)).is_empty()
    };
    assert!(gained(6, 4));
    assert!(!gained(6, 5));
    // Counts need no window.
    let counting = TriggerRules {
        min_window: 100,
        ..rules(Metric::NewSamples, Comparison::Greater, 5.0)
    };
    assert!(fired(counting));
    // Without a model there is no age.
    let mut watch = watch(rules(Metric::ModelAge, Comparison::GreaterOrEqual, 0.0));
    watch.notice(counted(7, scores(10, 5, 0.5)));
    assert!(watch.look(&header(1, 10, 50 * SECOND)).is_empty());
}

#[test]
fn drift_orders_a_training_and_another_at_twice_the_samples() {
    let mut watch = watch(rules(Metric::Drift, Comparison::Greater, 0.0));
    watch.notice(counted(7, scores(100, 50, 0.5)));
    assert!(watch.look(&header(1, 100, 0)).is_empty());
    let drift = DriftDetected {
        task: task(7),
        detector: Detector::Adwin,
        rise: Rise {
            before: 0.2,
            after: 0.5,
            samples: 30,
        },
        labelled: 100,
    };
    watch.notice(Notice::Drifted(drift));
    watch.notice(counted(7, scores(110, 50, 0.5)));
    let orders = watch.look(&header(2, 110, 0));
    assert_eq!(orders.len(), 1);
    assert_eq!((orders[0].labelled, orders[0].recent), (110, Some(40)));
    watch.notice(Notice::Ended(orders[0].model));
    // Another one each time the number of samples has doubled.
    let mut at = Vec::new();
    for labelled in (120..6_000).step_by(10) {
        watch.notice(counted(7, scores(labelled, 50, 0.5)));
        let orders = watch.look(&header(3, labelled as u64, 0));
        for order in orders {
            at.push((labelled, order.recent.unwrap()));
            watch.notice(Notice::Ended(order.model));
        }
    }
    let expected = [80, 160, 320, 640, 1280].map(|recent| (recent + 70, recent as u64));
    assert_eq!(at, expected);
}

#[test]
fn task_in_training_is_checked_again_after_it() {
    let mut watch = watch(rules(Metric::NewSamples, Comparison::GreaterOrEqual, 5.0));
    let version = |orders: Vec<perennial_operators::flow::TrainOrder>| -> Vec<(TaskId, u32)> {
        let models = orders
            .iter()
            .map(|order| (order.model.task, order.model.version));
        models.collect()
    };
    watch.notice(counted(7, scores(5, 0, 0.5)));
    assert_eq!(version(watch.look(&header(1, 5, 0))), [(task(7), 1)]);
    watch.notice(counted(7, scores(20, 0, 0.5)));
    assert!(watch.look(&header(2, 20, 0)).is_empty());
    // The end of another version's training does not count.
    watch.notice(Notice::Ended(ModelId {
        task: task(7),
        version: 9,
    }));
    assert!(watch.look(&header(3, 20, 0)).is_empty());
    watch.notice(Notice::Ended(ModelId {
        task: task(7),
        version: 1,
    }));
    assert_eq!(version(watch.look(&header(4, 20, 0))), [(task(7), 2)]);
    watch.notice(Notice::Ended(ModelId {
        task: task(7),
        version: 2,
    }));
    assert!(watch.look(&header(5, 20, 0)).is_empty());
}

#[test]
fn model_age_triggers_without_new_labels() {
    let rules = TriggerRules {
        min_new_samples: 0,
        ..rules(Metric::ModelAge, Comparison::GreaterOrEqual, 60.0)
    };
    let mut watch = Watch::restore(rules, [(task(7), TaskTraining::ordered(1, 0, 0, false))], 0);
    watch.notice(counted(7, scores(5, 0, 0.5)));
    assert!(watch.look(&header(1, 5, 59 * SECOND)).is_empty());
    let orders = watch.look(&header(2, 5, 60 * SECOND));
    assert_eq!(orders.len(), 1);
    assert_eq!(
        (orders[0].clock, orders[0].reason.as_str()),
        (60 * SECOND, "as written")
    );
}

#[test]
fn bootstrap_ends_with_the_initial_training() {
    let phase = |epoch, phase| EpochHeader {
        phase,
        ..header(epoch, 0, 5)
    };
    let mut watch = watch(TriggerRules {
        min_samples: 10,
        ..rules(Metric::NewSamples, Comparison::GreaterOrEqual, 1.0)
    });
    for (number, labelled) in [(9, 10), (0, 3), (4, 9), (2, 30)] {
        watch.notice(counted(number, labels(labelled)));
    }
    assert!(watch.look(&phase(1, Phase::Bootstrap)).is_empty());
    let orders = watch.look(&phase(2, Phase::BootstrapEnds));
    let tasks: Vec<_> = orders
        .iter()
        .map(|order| (order.model.task.0, order.initial))
        .collect();
    // The base task in any case; the others if they have samples; in order.
    assert_eq!(tasks, [(0, true), (2, true), (9, true)]);
    watch.notice(counted(4, labels(50)));
    assert!(watch.look(&phase(3, Phase::Ended)).is_empty());
}

/// The seconds at which a schedule allows a check, with a clock that advances in steps.
fn looks(schedule: Schedule, from: i64, to: i64, step: i64) -> Vec<i64> {
    let mut watch = Watch::restore(
        TriggerRules {
            schedule,
            min_new_samples: 0,
            ..rules(Metric::NewSamples, Comparison::GreaterOrEqual, 0.0)
        },
        [],
        from * SECOND,
    );
    let mut looks = Vec::new();
    for (epoch, second) in (from..to).step_by(step as usize).skip(1).enumerate() {
        watch.notice(counted(7, labels(epoch as i64 + 1)));
        let orders = watch.look(&header(epoch as u64, 0, second * SECOND));
        for order in orders {
            looks.push(second);
            watch.notice(Notice::Ended(order.model));
        }
    }
    looks
}

#[test]
fn schedules_have_a_period_and_a_daily_window() {
    let every = |period| Schedule {
        period: period * SECOND,
        between: None,
    };
    assert_eq!(looks(every(60), 0, 250, 25), [75, 125, 200]);
    let hours = |from: i64, to: i64| Schedule {
        period: 0,
        between: Some((from * 3600, to * 3600)),
    };
    let at = |hours: &[i64]| hours.iter().map(|hour| hour * 3600).collect::<Vec<_>>();
    // `from` is included, `to` is not; the second day has the same window.
    assert_eq!(
        looks(hours(9, 11), 0, 48 * 3600, 3600),
        at(&[9, 10, 33, 34])
    );
    // A window that passes midnight.
    assert_eq!(
        looks(hours(22, 2), 0, 48 * 3600, 3600),
        at(&[1, 22, 23, 24, 25, 46, 47])
    );
    // Before 1970 a day still begins at midnight.
    assert_eq!(looks(hours(9, 10), -24 * 3600, 0, 3600), at(&[-15]));
}

/// Notices and ended trainings of a few tasks, epoch by epoch; the clock advances by seconds.
type Epochs = Vec<(i64, Vec<(u64, usize, usize)>, Vec<usize>)>;

fn epochs() -> impl Strategy<Value = Epochs> {
    let moves = prop::collection::vec((0..6_u64, 1..9_usize, 0..9_usize), 0..6);
    let ends = prop::collection::vec(0..8_usize, 0..3);
    prop::collection::vec((0..40_i64, moves, ends), 2..25)
}

/// The orders of a watch over epochs; at `restart` it is replaced by one restored from a knowledge
/// base's content.
fn orders(rules: &TriggerRules, epochs: &Epochs, restart: Option<usize>) -> Vec<String> {
    let mut watch = watch(rules.clone());
    let mut totals = std::collections::BTreeMap::<u64, TaskScores>::new();
    let mut windows = totals.clone();
    let mut last = std::collections::BTreeMap::new();
    let (mut running, mut clock, mut all) = (Vec::<ModelId>::new(), 0, Vec::new());
    for (epoch, (step, moves, ends)) in epochs.iter().enumerate() {
        if restart == Some(epoch) {
            let tasks = last.iter().map(
                |(task, order): (&TaskId, &perennial_operators::flow::TrainOrder)| {
                    let running = running.contains(&order.model);
                    let state = TaskTraining::ordered(
                        order.model.version,
                        order.labelled,
                        order.clock,
                        running,
                    );
                    (*task, state)
                },
            );
            watch = Watch::restore(rules.clone(), tasks, clock);
            for (number, total) in &totals {
                watch.notice(moved(*number, *total, windows[number]));
            }
        }
        for (number, count, right) in moves {
            let window = scores(*count, *right, 0.5);
            let total = totals.entry(*number).or_default();
            differential_dataflow::difference::Semigroup::plus_equals(total, &window);
            watch.notice(moved(*number, *total, window));
            windows.insert(*number, window);
        }
        for end in ends {
            if *end < running.len() {
                watch.notice(Notice::Ended(running.remove(*end)));
            }
        }
        clock += step * SECOND;
        let orders = watch.look(&header(epoch as u64, 0, clock));
        assert!(orders.is_sorted_by(|a, b| a.model < b.model));
        for order in orders {
            assert!(
                !running.iter().any(|model| model.task == order.model.task),
                "ordered twice"
            );
            running.push(order.model);
            all.push(format!("{epoch} {order:?}"));
            last.insert(order.model.task, order);
        }
    }
    all
}

proptest! {
    #[test]
    fn restored_watch_orders_the_same(
        epochs in epochs(),
        restart in 0..25_usize,
        metric in prop::sample::select(vec![
            (Metric::NewSamples, Comparison::GreaterOrEqual, 9.0),
            (Metric::Accuracy, Comparison::Less, 0.5),
            (Metric::AccuracyDrop, Comparison::Greater, 0.1),
            (Metric::ModelAge, Comparison::Greater, 60.0),
        ]),
        period in prop::sample::select(vec![0, 50 * SECOND]),
    ) {
        let (metric, comparison, threshold) = metric;
        let rules = TriggerRules {
            schedule: Schedule { period, between: None },
            min_new_samples: 3,
            min_samples: 5,
            ..rules(metric, comparison, threshold)
        };
        let undisturbed = orders(&rules, &epochs, None);
        prop_assert_eq!(orders(&rules, &epochs, Some(restart)), undisturbed);
    }
}
