//! Adapters and the integration of experts against recomputation.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use ndarray::{ArrayView2, ArrayViewMut2};
use perennial_operators::algorithms::adapter::{Adapter, AdapterSum};
use perennial_operators::algorithms::neighbours::Neighbours;
use perennial_operators::algorithms::pool::{
    Adapters, Corrections, Deployed, DeployedModelRef, Integration, KINDS, Pool,
};
use perennial_operators::flow::{AdapterMoved, DeployedModel, Labelled, LabelledEpoch, Predicted};
use perennial_operators::learn::adapt;
use perennial_operators::predict::{InferenceRules, Models, Predictor};
use perennial_operators::{
    Epoch, Failure, LabelKind, ModelId, RecentMoved, RecentSamples, TaskDefinition, TaskId,
    TaskPath,
};
use proptest::prelude::*;
use timely::dataflow::operators::vec::Map;

use crate::support::{Row, Script, allocated, header, on_any_number_of_workers, run, say, value};

const CLASSES: usize = 3;
const KIND: LabelKind = LabelKind::Classes(CLASSES);

/// A model whose probabilities follow from its number and the row's first feature.
struct Made;

fn made_by(model: ModelId, feature: f32) -> [f32; CLASSES] {
    let number = (model.task.0 % 7) as f32;
    let logits = [0.3 * number + feature, 0.1 * number, 1.0 - feature];
    let total: f32 = logits.iter().map(|logit| logit.exp()).sum();
    logits.map(|logit| logit.exp() / total)
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
        probabilities: ArrayViewMut2<'_, f32>,
    ) -> Result<(), Failure> {
        say(features, probabilities, |feature| made_by(model, feature));
        Ok(())
    }
}

/// A sample with its label: task, feature, label.
type Sample = (u32, f32, usize);

/// One batch that enters at a worker. Batches hold `Rc`s, which cannot be sent.
#[derive(Clone, Debug)]
struct Entry {
    epoch: u64,
    first: u64,
    samples: Vec<Sample>,
    owners: Vec<u32>,
}

fn rows(samples: &[Sample]) -> Vec<Row> {
    let row = |(task, feature, label): &Sample| Row {
        time: 0,
        attributes: vec![task / 3, task % 3],
        features: vec![*feature],
        label: *label as f32,
    };
    samples.iter().map(row).collect()
}

fn rules(integration: Integration) -> InferenceRules {
    InferenceRules {
        kind: KIND,
        integration,
        adapters: true,
    }
}

fn model(task: TaskId) -> DeployedModel {
    DeployedModel {
        model: ModelId { task, version: 1 },
        hash: String::new(),
        onnx: Arc::default(),
        evidence: 0.0,
        scale: None,
    }
}

/// The tasks of the first level that own a model.
fn owned(owners: &[u32]) -> Vec<TaskId> {
    let child = |code: &u32| {
        TaskDefinition::base()
            .child(&[("a0".to_string(), value(*code))])
            .task
    };
    owners.iter().map(child).collect()
}

fn scored(made: &Entry) -> Predicted {
    let allocated = allocated(header(made.epoch, 0, 0), made.first, &rows(&made.samples));
    let mut predictor = Predictor::new(
        Made,
        rules(Integration::Weighted),
        Vec::new(),
        Adapters::default(),
        Neighbours::default(),
        None,
    );
    for task in [TaskId::BASE].into_iter().chain(owned(&made.owners)) {
        predictor.deploy(&model(task)).unwrap();
    }
    predictor.predict(Rc::new(allocated)).unwrap()
}

fn labelled(made: &Entry) -> LabelledEpoch {
    let part = Labelled {
        rows: (0..made.samples.len() as u32).collect(),
        labels: made
            .samples
            .iter()
            .map(|(_, _, label)| *label as f32)
            .collect(),
        predicted: Rc::new(scored(made)),
    };
    LabelledEpoch {
        batches: vec![part],
    }
}

fn scripts() -> impl Strategy<Value = Script<Entry>> {
    let sample = (0..9_u32, 0.0..1.0_f32, 0..CLASSES);
    let batch = (0..3_usize, prop::collection::vec(sample, 1..8));
    let owners = prop::sample::subsequence(vec![0, 1, 2], 0..=3);
    let epochs = prop::collection::vec(prop::collection::vec(batch, 0..3), 1..8);
    (epochs, owners).prop_map(|(epochs, owners)| {
        let mut first = 0;
        let epochs = epochs.into_iter().enumerate().map(|(epoch, batches)| {
            let batches = batches.into_iter().map(|(worker, samples)| {
                first += samples.len() as u64;
                let made = Entry {
                    epoch: epoch as u64,
                    first: first - samples.len() as u64,
                    samples,
                    owners: owners.clone(),
                };
                (worker, made)
            });
            (epoch as u64, batches.collect())
        });
        epochs.collect()
    })
}

fn adapted(workers: usize, script: Script<Entry>) -> BTreeMap<(Epoch, TaskId), Adapter> {
    let moved = run(workers, script, false, |_, made| {
        let labelled = made.map(|made| Rc::new(labelled(&made)));
        adapt(labelled, KIND, Adapters::default())
    });
    let moved = moved.into_iter();
    moved
        .map(|(epoch, AdapterMoved { task, adapter })| ((epoch, task), (*adapter).clone()))
        .collect()
}

/// The labels and expectations of a task by class, in plain arithmetic.
#[derive(Clone, Default)]
struct Count {
    labels: [f64; CLASSES],
    expected: [f64; CLASSES],
}

/// The shifts of each task after each epoch, by recomputation.
fn recounted(script: &Script<Entry>) -> BTreeMap<(Epoch, TaskId), [f64; CLASSES]> {
    let mut counts: BTreeMap<TaskId, Count> = BTreeMap::new();
    let mut after = BTreeMap::new();
    for (epoch, batches) in script {
        let mut fresh: BTreeMap<TaskId, Count> = BTreeMap::new();
        for (_, made) in batches {
            let scored = scored(made);
            for (at, (_, feature, label)) in made.samples.iter().enumerate() {
                let group = scored.allocated.group_of[at] as usize;
                let path = &scored.allocated.groups[group].path;
                let mut source = TaskId::BASE;
                for node in &path.nodes {
                    if owned(&made.owners).contains(&node.task) {
                        source = node.task;
                    }
                    let said = made_by(
                        ModelId {
                            task: source,
                            version: 1,
                        },
                        *feature,
                    );
                    let count = fresh.entry(node.task).or_default();
                    count.labels[*label] += 1.0;
                    for (sum, said) in count.expected.iter_mut().zip(said) {
                        *sum += f64::from(said);
                    }
                }
            }
        }
        for (task, fresh) in fresh {
            let count = counts.entry(task).or_default();
            let samples: f64 = fresh.labels.iter().sum();
            let kept = 0.5_f64.powf(samples / 100.0);
            for class in 0..CLASSES {
                count.labels[class] = count.labels[class] * kept + fresh.labels[class];
                count.expected[class] = count.expected[class] * kept + fresh.expected[class];
            }
            let total: f64 = count.expected.iter().sum();
            let shift = |class: usize| {
                let imagined = 10.0 * count.expected[class] / total;
                ((count.labels[class] + imagined) / (count.expected[class] + imagined)).ln()
            };
            let shifts = std::array::from_fn(shift);
            after.insert((Epoch(*epoch), task), shifts);
        }
    }
    after
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn adapters_equal_a_recount_on_any_number_of_workers(script in scripts()) {
        let one = on_any_number_of_workers(|workers| adapted(workers, script.clone()));
        let expected = recounted(&script);
        prop_assert!(one.keys().eq(expected.keys()));
        for (key, shifts) in &expected {
            let mut found = Vec::new();
            one[key].shift(None, &mut found);
            for (found, expected) in found.iter().zip(shifts) {
                prop_assert!((f64::from(*found) - expected).abs() < 1e-3, "{found} {expected}");
            }
        }
    }
}

fn path(depth: usize) -> TaskPath {
    let mut nodes = vec![TaskDefinition::base()];
    for level in 0..depth {
        let node = nodes[level].child(&[(format!("a{level}"), "x".to_string())]);
        nodes.push(node);
    }
    TaskPath { nodes }
}

/// Models at some depths of a path.
fn deployed(path: &TaskPath, depths: &[usize]) -> Deployed {
    let at = |depth: &usize| {
        let task = path.nodes[*depth].task;
        let model = ModelId { task, version: 1 };
        (
            task,
            DeployedModelRef {
                model,
                evidence: 0.0,
                scale: None,
            },
        )
    };
    depths.iter().map(at).collect()
}

fn integrate(pool: &Pool, answers: &[f32]) -> Vec<f32> {
    let mut probabilities = vec![0.0; CLASSES];
    pool.integrate(answers, &mut probabilities);
    probabilities
}

fn assert_close(found: &[f32], expected: &[f32]) {
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-5, "{found} {expected}");
    }
}

const ANSWERS: [f32; 6] = [0.7, 0.2, 0.1, 0.2, 0.2, 0.6];

#[test]
fn integration_leaf_takes_the_finest_and_average_takes_all() {
    let path = path(2);
    let deployed = deployed(&path, &[0, 1]);
    let pool = |integration| Pool::new(&path, &deployed, None, integration, KIND).unwrap();
    let leaf = pool(Integration::Leaf);
    assert_eq!(leaf.models, [leaf.main()]);
    assert_eq!(leaf.main().task, path.nodes[1].task);
    assert_eq!(integrate(&leaf, &ANSWERS[3..]), &ANSWERS[3..]);
    let average = pool(Integration::Average);
    let product: Vec<f32> = (0..3)
        .map(|class| (ANSWERS[class] * ANSWERS[class + 3]).sqrt())
        .collect();
    let total: f32 = product.iter().sum();
    let mean: Vec<f32> = product.iter().map(|product| product / total).collect();
    assert_close(&integrate(&average, &ANSWERS), &mean);
    // All experts weigh the same.
    assert_close(&integrate(&pool(Integration::Weighted), &ANSWERS), &mean);
    let nobody = Deployed::default();
    assert!(Pool::new(&path, &nobody, None, Integration::Weighted, KIND).is_none());
}

/// An adapter with these excess losses by slot.
fn excess(source: TaskId, nats: &[f32]) -> Arc<Adapter> {
    let mut adapter = Adapter::default();
    adapter.learn(&AdapterSum {
        source,
        excess: nats
            .iter()
            .map(|nats| (nats * 2_f32.powi(32)) as i64)
            .collect(),
        ..AdapterSum::default()
    });
    Arc::new(adapter)
}

#[test]
fn expert_weight_falls_with_its_loss_down_to_zero() {
    let path = path(1);
    let deployed = deployed(&path, &[0, 1]);
    let finest = path.nodes[1].task;
    let pool = |base: f32| {
        let adapters =
            Adapters::from_iter([(finest, excess(finest, &[base, base, 0.0, 0.0, 0.0, 0.0]))]);
        Pool::new(
            &path,
            &deployed,
            Some(Corrections {
                adapters: &adapters,
                neighbours: &Neighbours::default(),
            }),
            Integration::Weighted,
            KIND,
        )
        .unwrap()
    };
    let mut before = integrate(&pool(0.0), &ANSWERS)[2];
    for lost in [5.0, 10.0, 30.0] {
        let pool = pool(lost);
        assert_eq!(pool.main().task, finest);
        let now = integrate(&pool, &ANSWERS)[2];
        assert!(now > before, "{now} {before}");
        before = now;
    }
    let alone = pool(100.0);
    assert_eq!(alone.models, [alone.main()]);
    assert_close(&integrate(&alone, &ANSWERS[3..]), &ANSWERS[3..]);
}

#[test]
fn adapter_of_another_model_is_not_used() {
    let path = path(1);
    let finest = path.nodes[1].task;
    let mut adapter = Adapter::default();
    adapter.learn(&AdapterSum {
        source: TaskId::BASE,
        samples: 8,
        labels: vec![8 << 32, 0, 0],
        expected: vec![2 << 32, 3 << 32, 3 << 32],
        ..AdapterSum::default()
    });
    let adapters = Adapters::from_iter([(finest, Arc::new(adapter))]);
    let answer = |depths: &[usize]| {
        let deployed = deployed(&path, depths);
        let lessons = Corrections {
            adapters: &adapters,
            neighbours: &Neighbours::default(),
        };
        let pool = Pool::new(&path, &deployed, Some(lessons), Integration::Leaf, KIND).unwrap();
        integrate(&pool, &ANSWERS[..3])
    };
    assert!(answer(&[0])[0] > ANSWERS[0] + 0.1, "{:?}", answer(&[0]));
    assert_close(&answer(&[1]), &ANSWERS[..3]);
}

/// A sample of class 0 of a task.
fn of_class_0(task: TaskId, parent: Option<TaskId>) -> RecentMoved {
    RecentMoved {
        task,
        parent,
        samples: Arc::new(RecentSamples {
            labels: vec![0.0],
            features: vec![0.0],
            ..RecentSamples::default()
        }),
        left: Vec::new(),
    }
}

#[test]
fn neighbours_of_the_two_finest_tasks_count_until_they_lose() {
    let path = path(2);
    let deployed = deployed(&path, &[0]);
    let finest = path.nodes[2].task;
    let mut neighbours = Neighbours::new(4);
    neighbours.set_deviations(&[1.0]);
    neighbours.add(&of_class_0(finest, Some(path.nodes[1].task)));
    // At the coarsest task no neighbours are asked.
    neighbours.add(&of_class_0(TaskId::BASE, None));
    let pool = |lost: f32, integration| {
        let mut slots = [0.0; 3 * KINDS];
        (slots[KINDS + 2], slots[2 * KINDS + 2]) = (lost, lost);
        let adapters = Adapters::from_iter([(finest, excess(TaskId::BASE, &slots))]);
        let lessons = Corrections {
            adapters: &adapters,
            neighbours: &neighbours,
        };
        Pool::new(&path, &deployed, Some(lessons), integration, KIND).unwrap()
    };
    let said = |pool: &Pool| {
        let mut probabilities = integrate(pool, &ANSWERS[..3]);
        let neighbours = [0.9, 0.05, 0.05].repeat(pool.neighbours.len());
        pool.mix_neighbours(&neighbours, &mut probabilities);
        probabilities
    };
    let fresh = pool(0.0, Integration::Weighted);
    assert_eq!(fresh.neighbours, [path.nodes[1].task, finest]);
    // Six experts of equal weight: the model, three adapters without labels, and two
    // neighbourhoods.
    let logits = |class: usize| {
        4.0 / 6.0 * ANSWERS[class].ln() + 2.0 / 6.0 * [0.9_f32, 0.05, 0.05][class].ln()
    };
    let total: f32 = (0..3).map(|class| logits(class).exp()).sum();
    let expected: Vec<f32> = (0..3).map(|class| logits(class).exp() / total).collect();
    assert_close(&said(&fresh), &expected);
    let mut before = said(&fresh)[0];
    for lost in [5.0, 20.0] {
        let now = said(&pool(lost, Integration::Weighted))[0];
        assert!(now < before, "{now} {before}");
        before = now;
    }
    assert!(pool(100.0, Integration::Weighted).neighbours.is_empty());
    // Without losses of their own the model still counts, since they start from its prediction.
    let sure = pool(-2000.0, Integration::Weighted);
    assert_eq!(sure.models.len(), 1);
    assert_close(&said(&sure), &[0.9, 0.05, 0.05]);
    assert!(pool(0.0, Integration::Leaf).neighbours.is_empty());
}
