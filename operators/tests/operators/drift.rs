//! Drift: detections do not depend on workers or restarts.

use std::collections::BTreeMap;
use std::sync::Arc;

use differential_dataflow::difference::Semigroup;
use perennial_operators::drift::{Detectors, DriftRules, PageHinkleyRules, drift};
use perennial_operators::flow::Effect;
use perennial_operators::statistics::{Standing, View};
use perennial_operators::{
    DriftDetected, Epoch, KnowledgeChange, LabelKind, Score, TaskId, TaskScores,
};
use proptest::prelude::*;
use timely::dataflow::operators::Concat;
use timely::dataflow::operators::generic::operator::empty;
use timely::dataflow::operators::vec::Map;

use crate::support::{Script, difference, on_any_number_of_workers, run, task};

const RULES: DriftRules = DriftRules {
    kind: LabelKind::Classes(2),
    adwin: Some(0.01),
    page_hinkley: Some(PageHinkleyRules {
        delta: 0.005,
        threshold: 10.0,
    }),
    features: None,
    min_samples: 20,
};

/// An output of an epoch: a drift, or a committed change.
#[derive(Clone, Debug, PartialEq)]
enum Out {
    Drifted(DriftDetected),
    Committed(KnowledgeChange),
}

type Outs = Vec<(Epoch, TaskId, Out)>;

fn drift_of(workers: usize, views: Script<View>, restored: &[(TaskId, Arc<Detectors>)]) -> Outs {
    let restored = restored.to_vec();
    let out = run(workers, views, false, move |scope, views| {
        let (index, peers) = (scope.index() as u64, scope.peers() as u64);
        let mut mine = restored.clone();
        mine.retain(|(task, _)| task.0 % peers == index);
        let (drifted, effects) = drift(views, empty(scope), RULES, mine);
        let committed = effects.map(|effect| match effect {
            Effect::Change(change) => Out::Committed(change),
            other => panic!("{other:?}"),
        });
        drifted.map(Out::Drifted).concat(committed)
    });
    let mut out: Outs = out
        .into_iter()
        .map(|(epoch, out)| {
            let task = match &out {
                Out::Drifted(drift) => drift.task,
                Out::Committed(KnowledgeChange::DriftMoved(moved)) => moved.task,
                Out::Committed(KnowledgeChange::DriftDetected(drift)) => drift.task,
                other => panic!("{other:?}"),
            };
            (epoch, task, out)
        })
        .collect();
    out.sort_by_key(|(epoch, task, out)| (*epoch, *task, format!("{out:?}")));
    out
}

/// The standings of a few tasks, epoch by epoch; each entry is a task with its predictions and
/// errors.
fn views(epochs: &[Vec<(u64, usize, usize)>]) -> Script<View> {
    let mut totals: BTreeMap<u64, TaskScores> = BTreeMap::new();
    let epochs = epochs.iter().enumerate().map(|(epoch, moved)| {
        let views = moved.iter().map(|(number, count, wrong)| {
            let scores: Vec<_> = (0..*count).map(|at| (at >= *wrong, 0.5)).collect();
            let total = totals.entry(*number).or_default();
            total.plus_equals(&difference(0, &scores).scores());
            let standing = Standing {
                total: *total,
                window: TaskScores::default(),
            };
            // On any worker, as with differential dataflow.
            (3 * *number as usize + 1, (task(*number), standing))
        });
        (epoch as u64, views.collect())
    });
    epochs.collect()
}

fn epochs() -> impl Strategy<Value = Vec<Vec<(u64, usize, usize)>>> {
    let moved = |turn: usize| {
        prop::collection::btree_map(0..4_u64, (1..12_usize, 0.0..1.0_f64), 0..4).prop_map(
            move |moved| {
                let moved = moved.into_iter().map(|(number, (count, share))| {
                    let share = if turn == 1 { share.sqrt() } else { share / 3.0 };
                    (number, count, (count as f64 * share) as usize)
                });
                moved.collect::<Vec<_>>()
            },
        )
    };
    (
        prop::collection::vec(moved(0), 20..60),
        prop::collection::vec(moved(1), 20..60),
    )
        .prop_map(|(before, after)| [before, after].concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn drift_does_not_depend_on_workers_or_restarts(
        epochs in epochs(),
        share in 0.0..1.0_f64,
    ) {
        let script = views(&epochs);
        let whole = on_any_number_of_workers(|workers| drift_of(workers, script.clone(), &[]));
        let cut = (epochs.len() as f64 * share) as u64;
        let (before, after): (Vec<_>, Vec<_>) =
            script.into_iter().partition(|(epoch, _)| *epoch < cut);
        let mut stand: BTreeMap<TaskId, Standing> = BTreeMap::new();
        for (_, (task, standing)) in before.iter().flat_map(|(_, views)| views) {
            stand.insert(*task, *standing);
        }
        let mut pieces = drift_of(1, before, &[]);
        let mut known: BTreeMap<TaskId, Arc<Detectors>> = BTreeMap::new();
        for (_, task, out) in &pieces {
            if let Out::Committed(KnowledgeChange::DriftMoved(moved)) = out {
                known.insert(*task, moved.detectors.clone());
            }
        }
        let known: Vec<_> = known
            .into_iter()
            .map(|(task, detectors)| {
                let seen: Score = stand[&task].total.score;
                (task, Arc::new((*detectors).clone().resume(seen)))
            })
            .collect();
        // A restart gives the standings of tasks in its first epoch.
        let told = stand.into_iter().map(|(task, standing)| (task.0 as usize, (task, standing)));
        let again = [(0, told.collect())].into_iter().chain(after);
        pieces.extend(drift_of(2, again.collect(), &known));
        prop_assert_eq!(whole, pieces);
    }
}

#[test]
fn drift_is_reported_of_the_drifting_task_only() {
    let epochs: Vec<Vec<(u64, usize, usize)>> = (0..200)
        .map(|epoch| {
            let turned = epoch >= 100;
            vec![(1, 10, if turned { 6 } else { 2 }), (2, 10, 2)]
        })
        .collect();
    let out = drift_of(2, views(&epochs), &[]);
    let drifts = out.iter().filter_map(|(epoch, _, out)| match out {
        Out::Drifted(drift) => Some((epoch.0, *drift)),
        Out::Committed(_) => None,
    });
    let drifts: Vec<_> = drifts.collect();
    let (epoch, first) = drifts[0];
    assert!((100..110).contains(&epoch), "{drifts:?}");
    assert!(drifts.iter().all(|(_, drift)| drift.task == task(1)));
    assert_eq!(first.labelled, 10 * (epoch as i64 + 1));
    assert!(first.rise.before < 0.3 && first.rise.after > first.rise.before);
    // Each is committed.
    let committed = out
        .iter()
        .filter(|(_, _, out)| matches!(out, Out::Committed(KnowledgeChange::DriftDetected(_))));
    assert_eq!(committed.count(), drifts.len());
}
