//! Numeric labels: adapters, summaries and pools against recomputation.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use ndarray::{ArrayView2, ArrayViewMut2};
use perennial_operators::adapt::adapt;
use perennial_operators::flow::{DeployedModel, Labelled, LabelledEpoch, Scored};
use perennial_operators::infer::{InferenceRules, Models, Predictor};
use perennial_operators::integrate::{Adapters, Integration};
use perennial_operators::neighbours::Neighbours;
use perennial_operators::summarize::summary;
use perennial_operators::{
    Adapter, AdapterMoved, Epoch, Failure, LabelKind, ModelId, Score, TaskDefinition,
    TaskDifference, TaskId,
};
use proptest::prelude::*;

use crate::support::{Row, Script, allocated, header, on_any_number_of_workers, run, say, value};

/// The scale of errors.
const SCALE: f32 = 2.0;

/// A model that predicts a multiple of the row's feature; the factor follows from its task.
struct Made;

fn said(task: TaskId, feature: f32) -> f32 {
    (task.0 % 5) as f32 * feature
}

impl Models for Made {
    fn load(&mut self, _: ModelId, _: &Arc<Vec<u8>>) -> Result<(), Failure> {
        Ok(())
    }
    fn unload(&mut self, _: ModelId) {}
    fn predict(
        &mut self,
        model: ModelId,
        features: ArrayView2<'_, f32>,
        numbers: ArrayViewMut2<'_, f32>,
    ) -> Result<(), Failure> {
        say(features, numbers, |feature| [said(model.task, feature)]);
        Ok(())
    }
}

/// A sample with its label: task, feature, label.
type Sample = (u32, f32, f32);

/// One batch that enters at a worker. Batches hold `Rc`s, which cannot be sent.
#[derive(Clone, Debug)]
struct Entry {
    epoch: u64,
    first: u64,
    samples: Vec<Sample>,
}

/// The task of the first level that has its own model, beside the base task.
fn owner() -> TaskId {
    let values = [("a0".to_string(), value(1))];
    TaskDefinition::base().child(&values).task
}

fn scored(entry: &Entry, adapters: Adapters) -> Scored {
    let row = |(task, feature, label): &Sample| Row {
        time: 0,
        attributes: vec![task / 3, task % 3],
        features: vec![*feature],
        label: *label,
    };
    let rows: Vec<Row> = entry.samples.iter().map(row).collect();
    let rules = InferenceRules {
        kind: LabelKind::Number,
        integration: Integration::Weighted,
        adapters: true,
    };
    let mut predictor = Predictor::new(
        Made,
        rules,
        Vec::new(),
        adapters,
        Neighbours::default(),
        None,
    );
    for task in [TaskId::BASE, owner()] {
        let deployed = DeployedModel {
            model: ModelId { task, version: 1 },
            hash: String::new(),
            onnx: Arc::default(),
            evidence: 0.0,
            scale: Some(SCALE),
        };
        predictor.deploy(&deployed).unwrap();
    }
    let allocated = allocated(header(entry.epoch, 0, 0), entry.first, &rows);
    predictor.score(Rc::new(allocated)).unwrap()
}

fn labelled(entry: &Entry) -> LabelledEpoch {
    let part = Labelled {
        rows: (0..entry.samples.len() as u32).collect(),
        labels: entry.samples.iter().map(|(_, _, label)| *label).collect(),
        scored: Rc::new(scored(entry, Adapters::default())),
    };
    LabelledEpoch { parts: vec![part] }
}

fn scripts() -> impl Strategy<Value = Script<Entry>> {
    let sample = (0..9_u32, -2.0..2.0_f32, -9.0..9.0_f32);
    let batch = (0..3_usize, prop::collection::vec(sample, 1..8));
    let epochs = prop::collection::vec(prop::collection::vec(batch, 0..3), 1..8);
    epochs.prop_map(|epochs| {
        let mut first = 0;
        let epochs = epochs.into_iter().enumerate().map(|(epoch, batches)| {
            let batches = batches.into_iter().map(|(worker, samples)| {
                first += samples.len() as u64;
                let entry = Entry {
                    epoch: epoch as u64,
                    first: first - samples.len() as u64,
                    samples,
                };
                (worker, entry)
            });
            (epoch as u64, batches.collect())
        });
        epochs.collect()
    })
}

fn adapted(workers: usize, script: Script<Entry>) -> BTreeMap<(Epoch, TaskId), Adapter> {
    use timely::dataflow::operators::vec::Map;
    let moved = run(workers, script, false, |_, entries| {
        let labelled = entries.map(|entry| Rc::new(labelled(&entry)));
        adapt(labelled, LabelKind::Number, Adapters::default())
    });
    let moved = moved.into_iter();
    moved
        .map(|(epoch, AdapterMoved { task, adapter })| ((epoch, task), (*adapter).clone()))
        .collect()
}

/// The shift of each task after each epoch, in plain arithmetic.
fn shifts(script: &Script<Entry>) -> BTreeMap<(Epoch, TaskId), f64> {
    let mut sums: BTreeMap<TaskId, (f64, f64)> = BTreeMap::new();
    let mut after = BTreeMap::new();
    for (epoch, batches) in script {
        let mut fresh: BTreeMap<TaskId, (f64, f64)> = BTreeMap::new();
        for (_, entry) in batches {
            let scored = scored(entry, Adapters::default());
            for (at, (_, feature, label)) in entry.samples.iter().enumerate() {
                let group = scored.allocated.group_of[at] as usize;
                let mut source = TaskId::BASE;
                for node in &scored.allocated.groups[group].path.nodes {
                    if node.task == owner() {
                        source = owner();
                    }
                    let sum = fresh.entry(node.task).or_default();
                    sum.0 += 1.0;
                    sum.1 += f64::from(label - said(source, *feature));
                }
            }
        }
        for (task, (count, above)) in fresh {
            let sum = sums.entry(task).or_default();
            let kept = 0.5_f64.powf(count / 100.0);
            *sum = (sum.0 * kept + count, sum.1 * kept + above);
            after.insert((Epoch(*epoch), task), sum.1 / (sum.0 + 10.0));
        }
    }
    after
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn adapters_are_faded_means_on_any_number_of_workers(script in scripts()) {
        let one = on_any_number_of_workers(|workers| adapted(workers, script.clone()));
        let expected = shifts(&script);
        prop_assert!(one.keys().eq(expected.keys()));
        for (key, expected) in &expected {
            let mut found = Vec::new();
            one[key].shift(Some(SCALE), &mut found);
            prop_assert!((f64::from(found[0]) - expected).abs() < 1e-3, "{found:?} {expected}");
        }
    }

    #[test]
    fn summary_equals_a_recount(script in scripts()) {
        let mut sums: BTreeMap<TaskId, TaskDifference> = BTreeMap::new();
        let mut seen: BTreeMap<TaskId, Vec<(f64, f64)>> = BTreeMap::new();
        for (_, entry) in script.iter().flat_map(|(_, batches)| batches) {
            for (task, difference) in summary(&labelled(entry), LabelKind::Number) {
                use differential_dataflow::difference::Semigroup;
                TaskDifference::plus_equals(sums.entry(task).or_default(), &*difference);
            }
            let scored = scored(entry, Adapters::default());
            for (at, (_, _, label)) in entry.samples.iter().enumerate() {
                let group = scored.allocated.group_of[at] as usize;
                let both = (f64::from(scored.probabilities[[at, 0]]), f64::from(*label));
                for node in &scored.allocated.groups[group].path.nodes {
                    seen.entry(node.task).or_default().push(both);
                }
            }
        }
        prop_assert!(sums.keys().eq(seen.keys()));
        for (task, pairs) in &seen {
            let (difference, count) = (&sums[task], pairs.len() as f64);
            let mean = |of: &dyn Fn(&(f64, f64)) -> f64| pairs.iter().map(of).sum::<f64>() / count;
            let mae = mean(&|(said, label)| (said - label).abs());
            let square = mean(&|(said, label)| (said - label).powi(2));
            let middle = mean(&|(_, label)| *label);
            let variance = mean(&|(_, label)| (label - middle).powi(2));
            let score = &difference.score;
            prop_assert_eq!(score.count, pairs.len() as i64);
            prop_assert!(difference.confusion.is_empty());
            prop_assert!((score.mae().unwrap() - mae).abs() < 1e-5);
            prop_assert!((score.rmse().unwrap() - square.sqrt()).abs() < 1e-5);
            if variance > 0.01 {
                let (found, expected) = (difference.r2(score).unwrap(), 1.0 - square / variance);
                let close = (found - expected).abs() < 1e-3 * (1.0 + expected.abs());
                prop_assert!(close, "{found} {expected}");
            }
        }
    }
}

#[test]
fn experts_are_averaged_and_shifted() {
    let entry = Entry {
        epoch: 0,
        first: 0,
        samples: vec![(0, 1.0, 3.0), (3, 1.0, 3.0), (4, -1.5, 0.0)],
    };
    let numbers = |adapters| scored(&entry, adapters).probabilities.column(0).to_vec();
    // The base task predicts 0; where the other has a model and all weigh the same, half of its
    // prediction.
    let own = (owner().0 % 5) as f32;
    let before = numbers(Adapters::default());
    for (found, expected) in before.iter().zip([0.0, own / 2.0, -1.5 * own / 2.0]) {
        // Two of the path's five experts are the base task's.
        let share = if expected == 0.0 {
            0.0
        } else {
            expected * 2.0 * 3.0 / 5.0
        };
        assert!((found - share).abs() < 1e-6, "{found} {share}");
    }
    let mut adapters = Adapters::default();
    for moved in adapted(1, vec![(0, vec![(0, entry.clone())])]) {
        adapters.insert(moved.0.1, Arc::new(moved.1));
    }
    // The first sample's task predicted three too low, and now predicts more.
    let after = numbers(adapters);
    assert!(after[0] > before[0] && after[0] < 3.0, "{after:?}");
}

#[test]
fn non_finite_predictions_lose_the_most_and_sums_stay_finite() {
    let nonsense = Score::of_number(f32::NAN, 1.0);
    let limit = 2_f64.powi(42);
    assert_eq!(nonsense.mae(), Some(limit));
    assert_eq!(Score::of_number(f32::INFINITY, 1.0), nonsense);
    let mut sum = Score::default();
    for _ in 0..100 {
        sum.add(&nonsense);
    }
    assert_eq!((sum.count, sum.mae()), (100, Some(limit)));
    assert!(sum.rmse().unwrap() > 0.0);
    assert_eq!(TaskDifference::default().r2(&sum), None);
}
