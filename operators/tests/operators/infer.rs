//! Inference: which model predicts in which epoch.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use ndarray::{ArrayView2, ArrayViewMut2};
use perennial_operators::algorithms::neighbours::Neighbours;
use perennial_operators::algorithms::pool::Adapters;
use perennial_operators::flow::{
    Allocated, DeployedModel, Deployment, Feedback, Predicted, Substitute,
};
use perennial_operators::flow::{EpochHeader, Phase};
use perennial_operators::predict::{Baseline, Models, Predictor, infer};
use perennial_operators::{Epoch, Failure, ModelId, TaskId};
use proptest::prelude::*;
use timely::dataflow::operators::probe::Handle;
use timely::dataflow::operators::vec::Input;
use timely::dataflow::operators::{Inspect, Probe};

use crate::support::{FINEST, Row, allocated, end, header, say};

/// A model that predicts its own number and the row's first feature.
#[derive(Clone, Default)]
struct Fake {
    loaded: Rc<RefCell<BTreeSet<ModelId>>>,
    /// Models that fail for rows whose first feature is [`FATAL`].
    fragile: BTreeSet<ModelId>,
}

/// A feature that fragile models cannot take.
const FATAL: f32 = 3.0;

fn answer(model: ModelId, feature: f32) -> [f32; 2] {
    let own = (model.task.0 % 1000) as f32 + model.version as f32 * 1000.0;
    [own, feature]
}

impl Models for Fake {
    fn load(&mut self, model: ModelId, onnx: &Arc<Vec<u8>>) -> Result<(), Failure> {
        if onnx.as_slice() == b"broken" {
            return Err("no model".into());
        }
        self.loaded.borrow_mut().insert(model);
        Ok(())
    }

    fn unload(&mut self, model: ModelId) {
        assert!(self.loaded.borrow_mut().remove(&model), "was not loaded");
    }

    fn predict(
        &mut self,
        model: ModelId,
        features: ArrayView2<'_, f32>,
        probabilities: ArrayViewMut2<'_, f32>,
    ) -> Result<(), Failure> {
        if !self.loaded.borrow().contains(&model) {
            return Err(format!("{model:?} is not loaded").into());
        }
        let mut first = features.column(0).into_iter();
        if self.fragile.contains(&model) && first.any(|feature| *feature == FATAL) {
            return Err("a fatal feature".into());
        }
        say(features, probabilities, |feature| answer(model, feature));
        Ok(())
    }
}

/// Predicts seven rows of one task, of which the fourth is fatal, with these versions of models of
/// the base task, and with one of the finest task. Returns the fatal row's prediction, and what
/// failed with its substitute.
fn with_fatal_row(
    base: &[u32],
    fragile: &[(TaskId, u32)],
) -> (Vec<f32>, BTreeMap<ModelId, Option<String>>) {
    let allocated = Rc::new(of(&[4; 7]));
    let leaf = allocated.groups[0].path.leaf().task;
    let fragile = fragile.iter().map(|(task, version)| ModelId {
        task: if *task == LEAF { leaf } else { *task },
        version: *version,
    });
    let fake = Fake {
        fragile: fragile.collect(),
        ..Fake::default()
    };
    let mut predictor = predictor(fake, Vec::new());
    for version in base {
        predictor.deploy(&deployed(TaskId::BASE, *version)).unwrap();
    }
    predictor.deploy(&deployed(leaf, 9)).unwrap();
    let predicted = predictor.predict(allocated.clone()).unwrap();
    // The rows beside it are answered as ever.
    for row in (0..7).filter(|row| *row as f32 != FATAL) {
        let own = ModelId {
            task: leaf,
            version: 9,
        };
        assert_eq!(
            predicted.probabilities.row(row).to_vec(),
            answer(own, row as f32)
        );
    }
    let failures = predicted.failures.iter().map(|failure| {
        let substitute = failure.substitute.as_ref().map(|it| match it {
            Substitute::Above => "above".to_string(),
            Substitute::Earlier(earlier) => format!("v{}", earlier.model.version),
        });
        (failure.model, substitute)
    });
    let failures = failures.collect();
    assert!(
        predictor
            .predict(Rc::new(of(&[])))
            .unwrap()
            .failures
            .is_empty()
    );
    (
        predicted.probabilities.row(FATAL as usize).to_vec(),
        failures,
    )
}

/// Stands for the finest task.
const LEAF: TaskId = TaskId(1);

#[test]
fn row_for_which_a_model_fails_is_answered_by_the_next_above() {
    let base = ModelId {
        task: TaskId::BASE,
        version: 2,
    };
    // The finest model alone is asked, the base model only where that one fails.
    let (prediction, failures) = with_fatal_row(&[2], &[(LEAF, 9), (TaskId::BASE, 1)]);
    assert_eq!(prediction, answer(base, FATAL));
    let substitutes: Vec<_> = failures.into_values().collect();
    assert_eq!(substitutes, [Some("above".to_string())]);
    // Where that one fails too, nothing is gained by retiring either.
    let (prediction, failures) = with_fatal_row(&[2], &[(LEAF, 9), (TaskId::BASE, 2)]);
    assert_eq!(prediction, [0.5, 0.5]);
    assert_eq!(failures.into_values().collect::<Vec<_>>(), [None]);
}

#[test]
fn base_model_that_fails_gives_way_to_the_one_before() {
    let fragile = ModelId {
        task: TaskId::BASE,
        version: 2,
    };
    let batch = || Rc::new(of(&[4; 7]));
    let fake = Fake {
        fragile: BTreeSet::from([fragile]),
        ..Fake::default()
    };
    let mut predictor = predictor(fake.clone(), Vec::new());
    for version in [1, 2] {
        predictor.deploy(&deployed(TaskId::BASE, version)).unwrap();
    }
    let predicted = predictor.predict(batch()).unwrap();
    let of_row = |predicted: &Predicted, row: usize| predicted.probabilities.row(row).to_vec();
    let earlier = ModelId {
        version: 1,
        ..fragile
    };
    assert_eq!(of_row(&predicted, 2), answer(fragile, 2.0));
    assert_eq!(of_row(&predicted, 3), answer(earlier, FATAL));
    let [failure] = predicted.failures.as_slice() else {
        panic!("{:?}", predicted.failures);
    };
    assert_eq!(failure.model, fragile);
    let Some(Deployment::Restore { from, to }) = failure.deployment() else {
        panic!("{failure:?}");
    };
    // The spare is loaded for the rows that need it alone, and then again once it is deployed.
    assert_eq!(*fake.loaded.borrow(), BTreeSet::from([fragile]));
    predictor.restore(from, &to).unwrap();
    let predicted = predictor.predict(batch()).unwrap();
    assert_eq!(of_row(&predicted, 2), answer(earlier, 2.0));
    assert!(predicted.failures.is_empty());
}

/// A predictor that takes the finest model alone.
fn predictor(models: Fake, baselines: Vec<Baseline>) -> Predictor<Fake> {
    let (adapters, neighbours) = (Adapters::default(), Neighbours::default());
    Predictor::new(models, FINEST, baselines, adapters, neighbours, None)
}

fn deployed(task: TaskId, version: u32) -> DeployedModel {
    DeployedModel {
        model: ModelId { task, version },
        hash: String::new(),
        onnx: Arc::new(Vec::new()),
        evidence: 0.0,
        scale: None,
    }
}

fn row(task: u32, feature: f32) -> Row {
    Row {
        time: 0,
        attributes: vec![task / 3, task % 3],
        features: vec![feature, f32::NAN],
        label: 0.0,
    }
}

fn of(tasks: &[u32]) -> Allocated {
    let rows: Vec<Row> = tasks
        .iter()
        .enumerate()
        .map(|(at, task)| row(*task, at as f32))
        .collect();
    allocated(header(1, 0, 0), 0, &rows)
}

/// Checks every row's prediction against the finest model of its path.
fn check(scored: &Predicted, models: &BTreeMap<TaskId, u32>) {
    let allocated = &scored.allocated;
    for row in 0..allocated.batch.len() {
        let group = allocated.group_of[row] as usize;
        let path = &allocated.groups[group].path;
        let finest = path
            .nodes
            .iter()
            .rev()
            .find(|node| models.contains_key(&node.task))
            .unwrap();
        let model = ModelId {
            task: finest.task,
            version: models[&finest.task],
        };
        assert_eq!(scored.pools[group].main(), model);
        let said = scored.probabilities.row(row).to_vec();
        assert_eq!(said, answer(model, allocated.batch.features[[row, 0]]));
    }
}

proptest! {
    #[test]
    fn finest_model_predicts_each_row(
        tasks in prop::collection::vec(0..9_u32, 1..80),
        steps in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>()), 0..20),
    ) {
        let allocated = Rc::new(of(&tasks));
        let nodes: BTreeSet<TaskId> = allocated
            .groups
            .iter()
            .flat_map(|group| group.path.nodes.iter().map(|node| node.task))
            .collect();
        let nodes: Vec<TaskId> = nodes.into_iter().collect();
        let fake = Fake::default();
        let baselines = vec![Baseline::Frozen, Baseline::Single];
        let mut predictor = predictor(fake.clone(), baselines);
        predictor.deploy(&deployed(TaskId::BASE, 1)).unwrap();
        let mut models = BTreeMap::from([(TaskId::BASE, 1)]);
        let mut version = 1;
        for (deploys, at) in steps {
            let task = *at.get(&nodes);
            version += 1;
            if deploys {
                predictor.deploy(&deployed(task, version)).unwrap();
                models.insert(task, version);
            } else if task != TaskId::BASE {
                predictor.retire(task);
                models.remove(&task);
            }
            let scored = predictor.predict(allocated.clone()).unwrap();
            check(&scored, &models);
            for (baseline, version) in scored.baselines.iter().zip([1, models[&TaskId::BASE]]) {
                let model = ModelId { task: TaskId::BASE, version };
                for (row, said) in baseline.rows().into_iter().enumerate() {
                    prop_assert_eq!(said.to_vec(), answer(model, row as f32));
                }
            }
            // No unused model stays loaded.
            let frozen = usize::from(models[&TaskId::BASE] != 1);
            prop_assert_eq!(fake.loaded.borrow().len(), models.len() + frozen);
        }
    }
}

#[test]
fn bootstrap_is_not_predicted() {
    let mut predictor = predictor(Fake::default(), vec![Baseline::Frozen]);
    let mut batch = of(&[1, 2]);
    batch.header.phase = Phase::Bootstrap;
    let scored = predictor.predict(Rc::new(batch)).unwrap();
    assert!(!scored.is_predicted() && scored.baselines.is_empty());
    // After the bootstrap there must be a model.
    let failure = predictor
        .predict(Rc::new(of(&[1])))
        .unwrap_err()
        .to_string();
    assert!(
        failure.contains("no model answers for task \"a0=v0 > a1=v1\""),
        "{failure}"
    );
}

#[test]
fn model_that_cannot_load_leaves_the_old_one() {
    let mut predictor = predictor(Fake::default(), Vec::new());
    predictor.deploy(&deployed(TaskId::BASE, 1)).unwrap();
    let mut broken = deployed(TaskId::BASE, 2);
    broken.onnx = Arc::new(b"broken".to_vec());
    assert!(predictor.deploy(&broken).is_err());
    check(
        &predictor.predict(Rc::new(of(&[1]))).unwrap(),
        &BTreeMap::from([(TaskId::BASE, 1)]),
    );
}

/// Lets epochs enter, and deployments later; records the version that predicted each epoch, and
/// failures.
struct Stream {
    answers: Rc<RefCell<Vec<(u64, u32)>>>,
    failures: Rc<RefCell<Vec<String>>>,
    probe: Handle<Epoch>,
}

impl Stream {
    fn last(&self) -> Option<(u64, u32)> {
        self.answers.borrow().last().copied()
    }
}

fn stream(
    test: impl Fn(&Stream, &mut dyn FnMut(u64), &mut dyn FnMut(Option<Deployment>, u64))
    + Send
    + Sync
    + 'static,
) {
    timely::execute_directly(move |worker| {
        let stream = Stream {
            answers: Rc::default(),
            failures: Rc::default(),
            probe: Handle::new(),
        };
        let mut predictor = predictor(Fake::default(), Vec::new());
        predictor.deploy(&deployed(TaskId::BASE, 1)).unwrap();
        let (answers, failures) = (stream.answers.clone(), stream.failures.clone());
        let (mut batches, mut deployments) = worker.dataflow::<Epoch, _, _>(|scope| {
            let (batches, allocated) = scope.new_input::<Rc<Allocated>>();
            let (deployments, feedback) = scope.new_input::<Feedback>();
            let fail = Rc::new(move |failure: Failure| {
                failures.borrow_mut().push(failure.to_string());
            });
            infer(allocated, feedback, predictor, fail)
                .inspect(move |scored| {
                    let versions: BTreeSet<u32> = scored
                        .pools
                        .iter()
                        .map(|pool| pool.main().version)
                        .collect();
                    assert_eq!(versions.len(), 1, "an epoch saw two versions");
                    let epoch = scored.allocated.header.epoch.0;
                    answers
                        .borrow_mut()
                        .push((epoch, *versions.first().unwrap()));
                })
                .probe_with(&stream.probe);
            (batches, deployments)
        });
        let worker = RefCell::new(worker);
        let mut enter = |epoch: u64| {
            for tasks in [[0, 1], [4, 5]] {
                let mut batch = of(&tasks);
                batch.header = EpochHeader {
                    epoch: Epoch(epoch),
                    ..batch.header
                };
                batches.send(Rc::new(batch));
            }
            batches.advance_to(Epoch(epoch + 1));
            (0..10).for_each(|_| _ = worker.borrow_mut().step());
        };
        let mut feed = |deployment: Option<Deployment>, until: u64| {
            if let Some(deployment) = deployment {
                deployments.send(Feedback::Deployment(deployment));
            }
            deployments.advance_to(Epoch(until));
            (0..10).for_each(|_| _ = worker.borrow_mut().step());
        };
        test(&stream, &mut enter, &mut feed);
        end(&mut worker.borrow_mut());
    });
}

#[test]
fn epoch_waits_for_its_models_and_sees_one_version() {
    stream(|stream, enter, feed| {
        enter(0);
        enter(1);
        enter(2);
        assert_eq!(stream.last(), None, "models can still come");
        feed(None, 1);
        assert_eq!(stream.last(), Some((0, 1)));
        feed(Some(Deployment::Deploy(deployed(TaskId::BASE, 2))), 1);
        assert_eq!(stream.last(), Some((0, 1)), "epoch 1 is not complete");
        feed(None, 2);
        assert_eq!(stream.last(), Some((1, 2)));
        feed(None, 3);
        assert_eq!(
            *stream.answers.borrow(),
            [(0, 1), (0, 1), (1, 2), (1, 2), (2, 2), (2, 2)]
        );
        assert!(!stream.probe.less_than(&Epoch(3)));
    });
}

#[test]
fn failure_is_reported_once_and_keeps_the_epoch_open() {
    stream(|stream, enter, feed| {
        enter(0);
        feed(None, 1);
        // Without an earlier model, nothing can take the place of one that does not load.
        let all = ModelId {
            task: TaskId::BASE,
            version: 0,
        };
        feed(Some(Deployment::Retire(all)), 1);
        feed(Some(Deployment::Deploy(broken(2))), 2);
        enter(1);
        enter(2);
        feed(None, 9);
        assert_eq!(*stream.failures.borrow(), ["no model"]);
        assert_eq!(stream.last(), Some((0, 1)));
        assert!(
            stream.probe.less_equal(&Epoch(1)),
            "what failed looks as if it had happened"
        );
    });
}

/// A model of the base task that does not load.
fn broken(version: u32) -> DeployedModel {
    DeployedModel {
        onnx: Arc::new(b"broken".to_vec()),
        ..deployed(TaskId::BASE, version)
    }
}

#[test]
fn deployment_that_does_not_load_leaves_the_model_before() {
    stream(|stream, enter, feed| {
        (0..3).for_each(&mut *enter);
        feed(None, 1);
        feed(Some(Deployment::Deploy(broken(2))), 2);
        feed(None, 3);
        assert_eq!(*stream.failures.borrow(), [""; 0]);
        assert_eq!(stream.last(), Some((2, 1)));
    });
}

#[test]
fn rollback_needs_the_version_that_did_worse() {
    stream(|stream, enter, feed| {
        (0..4).for_each(&mut *enter);
        let restore = |from: u32| {
            let (task, version) = (TaskId::BASE, from);
            let from = ModelId { task, version };
            let to = deployed(TaskId::BASE, 1);
            Some(Deployment::Restore { from, to })
        };
        feed(None, 1);
        feed(Some(Deployment::Deploy(deployed(TaskId::BASE, 3))), 2);
        feed(restore(2), 3);
        feed(restore(3), 4);
        let answers = stream.answers.borrow();
        let versions: Vec<(u64, u32)> = answers.iter().copied().step_by(2).collect();
        assert_eq!(versions, [(0, 1), (1, 3), (2, 3), (3, 1)]);
    });
}
