//! Totals and windows of the dataflow against recomputation.

use std::collections::BTreeMap;

use differential_dataflow::difference::Semigroup;
use perennial_operators::flow::Effect;
use perennial_operators::statistics::{RestoredStatistics, Standing, View, statistics};
use perennial_operators::{
    Epoch, KnowledgeChange, StatisticsMoved, TaskDifference, TaskId, TaskScores,
};
use proptest::prelude::*;
use timely::dataflow::operators::Concat;
use timely::dataflow::operators::vec::Map;

use crate::support::{Script, difference, run, task};

type Summary = (TaskId, TaskDifference);

#[derive(Clone, Debug)]
enum Out {
    View(View),
    Effect(Effect),
}

/// Random epochs, some skipped, of summaries of a few tasks that enter at random workers.
fn scripts() -> impl Strategy<Value = Script<Summary>> {
    let summary = (
        0..3_usize,
        0..5_u64,
        0..3_i64,
        prop::collection::vec((any::<bool>(), 0.01..1.0_f32), 0..4),
    )
        .prop_map(|(worker, number, labelled, scores)| {
            (worker, (task(number), difference(labelled, &scores)))
        });
    prop::collection::vec((1..3_u64, prop::collection::vec(summary, 0..6)), 1..14).prop_map(
        |steps| {
            let mut epoch = 0;
            let mut script = Vec::new();
            for (step, summaries) in steps {
                epoch += step;
                let moving = summaries.into_iter();
                let moving = moving.filter(|(_, (_, difference))| difference.labelled > 0);
                script.push((epoch, moving.collect()));
            }
            script
        },
    )
}

fn statistics_of(
    workers: usize,
    script: Script<Summary>,
    lockstep: bool,
    window: i64,
    restored: Vec<RestoredStatistics>,
) -> Vec<(Epoch, Out)> {
    run(workers, script, lockstep, move |scope, summaries| {
        let (index, peers) = (scope.index() as u64, scope.peers() as u64);
        let mut mine = restored.clone();
        mine.retain(|restored| restored.task.0 % peers == index);
        let summaries = summaries.map(|(task, difference)| (task, Box::new(difference)));
        let (views, effects) = statistics(summaries, window, mine);
        views.map(Out::View).concat(effects.map(Out::Effect))
    })
}

type Values = BTreeMap<TaskId, Standing>;

/// The standings of all tasks after each epoch of a script, by recomputation.
fn oracle(script: &Script<Summary>, window: i64) -> Vec<(u64, Values)> {
    let mut history: BTreeMap<TaskId, BTreeMap<u64, TaskScores>> = BTreeMap::new();
    let mut after = Vec::new();
    for (epoch, summaries) in script {
        for (_, (task, difference)) in summaries {
            let epochs = history.entry(*task).or_default();
            let scores = epochs.entry(*epoch).or_default();
            scores.plus_equals(&difference.scores());
        }
        let standing = |epochs: &BTreeMap<u64, TaskScores>| {
            let mut standing = Standing::default();
            for scores in epochs.values().rev() {
                if standing.window.score.count < window && scores.score.count > 0 {
                    standing.window.plus_equals(scores);
                }
                standing.total.plus_equals(scores);
            }
            standing
        };
        let values = history
            .iter()
            .map(|(task, epochs)| (*task, standing(epochs)));
        after.push((*epoch, values.collect()));
    }
    after
}

fn views_by_epoch(out: &[(Epoch, Out)]) -> BTreeMap<u64, Vec<View>> {
    let mut views: BTreeMap<u64, Vec<View>> = BTreeMap::new();
    for (epoch, out) in out {
        if let Out::View(view) = out {
            views.entry(epoch.0).or_default().push(*view);
        }
    }
    views
}

fn moves(out: &[(Epoch, Out)]) -> BTreeMap<(Epoch, TaskId), StatisticsMoved> {
    let mut moves = BTreeMap::new();
    for (epoch, out) in out {
        if let Out::Effect(Effect::Change(KnowledgeChange::StatisticsMoved(moved))) = out {
            let twice = moves.insert((*epoch, moved.task), moved.clone());
            assert!(twice.is_none(), "a task moved twice in an epoch");
        }
    }
    moves
}

/// The statistics that a knowledge base has after some moves.
fn restored(moves: &BTreeMap<(Epoch, TaskId), StatisticsMoved>) -> Vec<RestoredStatistics> {
    let mut tasks: BTreeMap<TaskId, (TaskScores, BTreeMap<Epoch, TaskScores>)> = BTreeMap::new();
    for ((epoch, task), moved) in moves {
        let (total, window) = tasks.entry(*task).or_default();
        total.plus_equals(&moved.difference.scores());
        if moved.difference.score.count > 0 {
            window.insert(*epoch, moved.difference.scores());
        }
        for left in &moved.left {
            window.remove(left).expect("what leaves was in the window");
        }
    }
    let restored = tasks.into_iter().map(|(task, (total, window))| {
        let window = window.into_iter().collect();
        RestoredStatistics {
            task,
            total,
            window,
        }
    });
    restored.collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn views_equal_a_recount(
        script in scripts(),
        window in 1..9_i64,
        workers in 1..4_usize,
        lockstep: bool,
    ) {
        let out = statistics_of(workers, script.clone(), lockstep, window, Vec::new());
        let views = views_by_epoch(&out);
        let mut now = Values::new();
        for (epoch, expected) in oracle(&script, window) {
            let mut seen = Vec::new();
            for (key, value) in views.get(&epoch).into_iter().flatten() {
                prop_assert!(!seen.contains(key), "{key:?} twice in epoch {epoch}");
                seen.push(*key);
                now.insert(*key, *value);
            }
            prop_assert_eq!(&now, &expected, "in epoch {}", epoch);
        }
        // The committed changes add up to the same, moments included.
        let mut committed: BTreeMap<TaskId, TaskDifference> = BTreeMap::new();
        for moved in moves(&out).into_values() {
            committed.entry(moved.task).or_default().plus_equals(&*moved.difference);
        }
        let mut counted: BTreeMap<TaskId, TaskDifference> = BTreeMap::new();
        for (_, (task, difference)) in script.iter().flat_map(|(_, summaries)| summaries) {
            counted.entry(*task).or_default().plus_equals(difference);
        }
        prop_assert_eq!(committed, counted);
    }

    #[test]
    fn window_drops_the_oldest_and_no_more(
        script in scripts(),
        window in 1..9_i64,
    ) {
        let moves = moves(&statistics_of(2, script, false, window, Vec::new()));
        let mut kept: BTreeMap<TaskId, Vec<(Epoch, i64)>> = BTreeMap::new();
        for ((epoch, task), moved) in &moves {
            let kept = kept.entry(*task).or_default();
            if moved.difference.score.count > 0 {
                kept.push((*epoch, moved.difference.score.count));
            }
            let left: Vec<Epoch> = kept.drain(..moved.left.len()).map(|(epoch, _)| epoch).collect();
            prop_assert_eq!(&left, &moved.left);
            let sum = |kept: &[(Epoch, i64)]| kept.iter().map(|(_, count)| count).sum::<i64>();
            if !left.is_empty() {
                prop_assert!(sum(kept) >= window);
            }
            if kept.len() > 1 {
                prop_assert!(sum(&kept[1..]) < window);
            }
        }
    }

    #[test]
    fn restart_does_not_change_statistics(
        script in scripts(),
        cut in 0..14_usize,
        window in 1..9_i64,
        workers in (1..4_usize, 1..4_usize),
    ) {
        let cut = cut.min(script.len());
        let whole = moves(&statistics_of(workers.0, script.clone(), false, window, Vec::new()));
        let before = statistics_of(workers.0, script[..cut].to_vec(), true, window, Vec::new());
        let mut parts = moves(&before);
        let state = restored(&parts);
        let after = statistics_of(workers.1, script[cut..].to_vec(), false, window, state);
        parts.extend(moves(&after));
        prop_assert_eq!(parts, whole);
        let mut now = Values::new();
        for views in views_by_epoch(&after).into_values() {
            now.extend(views);
        }
        if let Some((_, expected)) = oracle(&script, window).last() {
            prop_assert_eq!(&now, expected);
        }
    }
}

#[test]
fn windows_drop_older_samples() {
    let scored = |epoch| {
        (
            epoch,
            vec![(0, (task(3), difference(0, &[(true, 0.5); 2])))],
        )
    };
    let out = statistics_of(
        1,
        vec![scored(1), scored(2), scored(3)],
        false,
        3,
        Vec::new(),
    );
    let views = views_by_epoch(&out);
    let of = |epoch: u64| views[&epoch][0].1;
    // Epoch 3 adds what epoch 1 removes: the window stays.
    assert_eq!(of(3).window, of(2).window);
    assert_eq!((of(2).total.labelled, of(3).total.labelled), (4, 6));
    let left: Vec<_> = moves(&out).into_values().map(|moved| moved.left).collect();
    assert_eq!(left, [vec![], vec![], vec![Epoch(1)]]);
}
