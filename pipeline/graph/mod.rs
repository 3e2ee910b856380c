//! The graph: every worker builds the same.

mod unseen;

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use perennial_connectors::onnx::Runtime;
use perennial_operators::commit::commit;
use perennial_operators::flow::{
    AdapterMoved, Allocated, Deployment, Effect, Flow, KnowledgeChange, Learned, Phase, Scored,
    Settled, StageKind, StageMoved, StageState, TrainOrder, TrainOutcome,
};
use perennial_operators::ingest::{Pace, allocate, define, source};
use perennial_operators::label::{Joiner, Waited, join};
use perennial_operators::learn::{
    Gate, MemoryRules, TrainingMode, Watch, adapt, drift, follow, recent, retain, statistics,
    strangeness, summarize, train, trigger,
};
use perennial_operators::predict::{InferenceRules, Predictor, calibrate, infer, render};
use perennial_operators::share::{SharePolicy, share};
use perennial_operators::unseen::known;
use perennial_operators::{Epoch, EpochsLater, Failure, RecentMoved, TaskDefinition};
use timely::dataflow::operators::core::Filter;
use timely::dataflow::operators::generic::operator::empty;
use timely::dataflow::operators::probe::Handle;
use timely::dataflow::operators::vec::{Broadcast, Map};
use timely::dataflow::operators::{Concat, ConnectLoop, Feedback, Probe};
use timely::worker::Worker;

use self::unseen::Streams;
use crate::committer::Offer;
use crate::config::{IntegrationConfig, Mode, Role, Settings};
use crate::fault;
use crate::learning::Learner;
use crate::link::OTHERS;
use crate::link::follow::LinkInbox;
use crate::models::Sessions;
use crate::reader::Channel;
use crate::restore::Restored;

/// Appends the predictions of a batch to a buffer, as their output takes them.
pub type Render = Box<dyn FnMut(&Scored, &mut Vec<u8>)>;

/// What one worker brings to the graph.
pub struct Parts {
    /// Its reader, if it has one.
    pub reader: Option<Channel>,
    /// The learner, on worker 0.
    pub learner: Option<Learner>,
    /// What comes over the link, on worker 0.
    pub inbox: Option<LinkInbox>,
    /// What holds samples back until something answers.
    pub gate: Gate,
    /// What is shared, if anything is.
    pub share: Option<SharePolicy>,
    /// The way to the committer, on worker 0.
    pub offer: Option<Offer>,
    /// Renders predictions, if they are written.
    pub renderer: Option<Render>,
    /// Runs models.
    pub runtime: Runtime,
}

/// How failures leave the dataflow.
pub trait Report: Clone + 'static {
    /// The source has failed: what it read before is still to be committed.
    fn source_failed(&self, failure: Failure);
    /// An operator has failed: the run is over.
    fn failed(&self, failure: Failure);
}

/// Builds the graph on a worker and returns how far it is.
pub fn build(
    worker: &mut Worker,
    settings: &Settings,
    restored: &Restored,
    parts: Parts,
    stop: Arc<AtomicBool>,
    next: Arc<Vec<AtomicU64>>,
    report: &impl Report,
) -> Result<Handle<Epoch>, Failure> {
    let (index, peers) = (worker.index(), worker.peers());
    let config = settings.config();
    let fail = |report: &_| {
        let report = Clone::clone(report);
        move |failure| Report::failed(&report, failure)
    };
    let source_report = report.clone();
    let rules = inference_rules(settings);
    let sessions = Sessions::new(
        parts.runtime,
        settings.features(),
        rules.kind.width(),
        config.inference.memory_bytes / peers,
    );
    let groups = unseen::groups(settings, restored, index);
    let mut predictor = predictor(settings, rules, restored, sessions)?;
    if let Some((groups, _)) = &groups {
        for trial in groups.trials()? {
            predictor.attempt_next(trial);
        }
    }
    let waited = Waited {
        pending: &restored.pending(index, peers),
        released: &restored.released,
        committed: restored.progress.header.as_ref(),
        requested: &restored.requested,
    };
    let joiner = Joiner::restore(settings.arrival, waited)?.naming(parts.share.is_some());
    let watch = Watch::restore(
        settings.rules.clone(),
        restored.training(index, peers),
        restored
            .progress
            .header
            .map_or(i64::MIN, |header| header.clock),
    )
    .numbering_after(match config.role {
        Role::Edge => OTHERS,
        Role::Local | Role::Cloud => 0,
    });
    let mode = match config.mode {
        Mode::Replay => TrainingMode::Replay,
        Mode::Live => TrainingMode::Live,
    };
    let resumed = match restored.progress.last_epoch() {
        Some(last) if index == 0 => (last, restored.orders.clone()),
        _ => (Epoch(0), Vec::new()),
    };
    let by_attributes = unseen::is_told_by_attributes(settings);
    let probe = Handle::new();
    let pace = Pace {
        probe: probe.clone(),
        epochs_in_flight: config.epoch.in_flight,
        stop,
        next,
    };
    worker.dataflow_named("perennial", |scope| {
        let (slices, intake) = source(
            scope,
            parts.reader,
            restored.start(),
            pace,
            move |failure| {
                source_report.source_failed(failure);
            },
        );
        let (settling, settled) = scope.feedback::<Vec<Settled>>(EpochsLater(1));
        let settled = settled.broadcast();
        let allocator = restored.allocator(settings.levels.clone());
        let allocated = allocate(slices, settled.clone(), allocator);
        let met = match by_attributes {
            // Later, what becomes a task is for groups to say.
            true => allocated
                .clone()
                .filter(|allocated| is_bootstrap(allocated)),
            false => allocated.clone(),
        };
        let before = restored.tasks.iter().map(|task| task.task);
        let defined = define(met, before.collect());
        let (feedback, outcomes) = scope.feedback::<Vec<TrainOutcome>>(EpochsLater(1));
        let (adapted, adapters) = scope.feedback::<Vec<AdapterMoved>>(EpochsLater(1));
        let (resampled, latest_of_all) = scope.feedback::<Vec<RecentMoved>>(EpochsLater(1));
        let (recognizable, recognition) = scope.feedback::<Vec<Learned>>(EpochsLater(1));
        // One worker tries what is on trial.
        let (to_try, trials) = scope.feedback::<Vec<Learned>>(EpochsLater(1));
        let told: Flow<Learned> = outcomes
            .clone()
            .flat_map(told)
            .concat(recognition)
            .concat(adapters.map(Learned::Adapter))
            .concat(latest_of_all.map(Learned::Recent))
            .broadcast()
            .concat(trials);
        let ended = outcomes.clone().map(|outcome| outcome.model);
        let scored = infer(allocated, told, predictor, fail(report));
        let (labelled, pending) = join(scored.clone(), settled.clone(), joiner, fail(report));
        let shared = match parts.share {
            Some(policy) => share(labelled.clone(), policy, &restored.renamed),
            None => empty(scope),
        };
        let taken_in = outcomes.clone().flat_map(tasks_of);
        let (calibration, calibrated) = match &settings.unseen {
            Some(_) => calibrate(scored.clone(), restored.calibrator()),
            None => (empty(scope), empty(scope)),
        };
        let told = unseen::learn(
            &Streams {
                scored: scored.clone(),
                labelled,
                settled,
                defined: defined.clone().concat(taken_in.clone()),
                outcomes: outcomes.clone(),
                calibration: calibration.clone(),
            },
            groups,
            restored,
            fail(report),
        );
        told.trials.connect_loop(to_try);
        let newly = defined.clone().concat(taken_in);
        let newly = newly.map(|task| Settled::Defined(task.task));
        told.settled.concat(newly).connect_loop(settling);
        let labelled = told.labelled;
        let summaries = summarize(labelled.clone(), rules.kind);
        let (views, moved) = statistics(
            summaries,
            config.triggers.window as i64,
            restored.statistics(index, peers),
        );
        let (drifted, watched) = match settings.drift.any() {
            true => drift(
                views.clone(),
                match settings.drift.features {
                    Some(_) => strangeness(scored.clone()),
                    None => empty(scope),
                },
                settings.drift,
                restored.detectors(index, peers),
            ),
            false => (empty(scope), empty(scope)),
        };
        let known = match &settings.unseen {
            Some(rules) => known(
                views.clone(),
                rules.known_after,
                restored.known(rules.known_after),
            ),
            None => empty(scope),
        };
        known
            .map(Learned::Known)
            .concat(calibration)
            .concat(told.regions)
            .connect_loop(recognizable);
        let learned: Flow<AdapterMoved> = match rules.adapters {
            true => adapt(
                labelled.clone(),
                rules.kind,
                restored.adapters(index, peers),
            ),
            false => empty(scope),
        };
        learned.clone().connect_loop(adapted);
        let learned = learned.map(|moved| Effect::Change(KnowledgeChange::AdapterMoved(moved)));
        let latest: Flow<RecentMoved> = match recents(settings) {
            0 => empty(scope),
            most => recent(labelled.clone(), most, restored.held(index, peers)),
        };
        match neighbours(settings) {
            0 => empty(scope).connect_loop(resampled),
            _ => latest.clone().connect_loop(resampled),
        }
        let latest = latest.map(|moved| Effect::Change(KnowledgeChange::RecentMoved(moved)));
        let retained = retain(
            labelled,
            memory_rules(settings),
            restored.memory(index, peers),
        );
        let trains = config.link.as_ref().is_none_or(|link| link.train);
        let (orders, trained) = match config.role == Role::Edge && !trains {
            // What answers at such an edge is for the cloud to say.
            true => (empty(scope), empty(scope)),
            false => {
                let orders = trigger(views, drifted, ended, scored.clone(), watch);
                let learner = parts.learner;
                let trained = train(scope, orders.clone(), learner, mode, resumed, fail(report));
                (orders, trained)
            }
        };
        // What the cloud publishes; in the cloud, what was found of models that some edges had first.
        let follows = config.role == Role::Edge
            || config
                .link
                .as_ref()
                .is_some_and(|link| link.canary.is_some());
        let trained = match follows {
            true => trained.concat(follow(
                scored.clone(),
                parts.inbox,
                parts.gate,
                fail(report),
            )),
            false => trained,
        };
        let ordered = orders.map(waiting);
        let deployed = trained.clone().flat_map(deployed);
        trained.connect_loop(feedback);
        let mut effects = intake
            .concat(defined.map(|task| Effect::Change(KnowledgeChange::TaskDefined(task))))
            .concat(told.effects)
            .concat(pending)
            .concat(shared)
            .concat(moved)
            .concat(watched)
            .concat(calibrated)
            .concat(scored.clone().flat_map(strange))
            .concat(retained)
            .concat(ordered)
            .concat(learned)
            .concat(latest)
            .concat(deployed);
        if let Some(renderer) = parts.renderer {
            effects = effects.concat(render(scored, renderer));
        }
        commit(effects, parts.offer).probe_with(&probe);
    });
    Ok(probe)
}

fn memory_rules(settings: &Settings) -> MemoryRules {
    let memory = &settings.config().memory;
    MemoryRules {
        samples_per_task: memory.samples_per_task,
        bytes: memory.bytes,
        features: settings.features(),
        classes: settings.classes.len(),
    }
}

fn is_bootstrap(allocated: &Allocated) -> bool {
    matches!(
        allocated.header.phase,
        Phase::Bootstrap | Phase::BootstrapEnds
    )
}

fn inference_rules(settings: &Settings) -> InferenceRules {
    let inference = &settings.config().inference;
    InferenceRules {
        kind: settings.label_kind(),
        integration: inference.integration.into(),
        adapters: inference.adapters,
    }
}

/// How many of the latest labelled samples of a task are kept.
pub fn recents(settings: &Settings) -> usize {
    let for_drift = match settings.drift.any() {
        true => settings.config().memory.recent_per_task,
        false => 0,
    };
    for_drift.max(neighbours(settings))
}

/// How many labelled samples of a task are kept for new ones to find their neighbours among.
fn neighbours(settings: &Settings) -> usize {
    let inference = &settings.config().inference;
    match inference.adapters && inference.integration != IntegrationConfig::Leaf {
        true => inference.neighbours,
        false => 0,
    }
}

fn predictor(
    settings: &Settings,
    rules: InferenceRules,
    restored: &Restored,
    sessions: Sessions,
) -> Result<Predictor<Sessions>, Failure> {
    let baselines = settings.config().report.baselines.iter().copied();
    let baselines = baselines.map(Into::into).collect();
    let mut predictor = Predictor::new(
        sessions,
        rules,
        baselines,
        restored.adapters.clone(),
        restored.neighbours(neighbours(settings)),
        settings
            .unseen
            .clone()
            .map(|rules| restored.recognizer(rules)),
    );
    for model in &restored.deployed {
        predictor.deploy(model)?;
    }
    Ok(predictor)
}

/// What inference is told of a training.
fn told(outcome: TrainOutcome) -> Vec<Learned> {
    let deployment = outcome.deployment.map(|deployment| {
        // It has come back into the dataflow, and answers nothing yet.
        fault::point("swap: decided");
        Learned::Deployment(deployment)
    });
    let scales = outcome
        .changes
        .into_iter()
        .filter_map(|change| match change {
            KnowledgeChange::FeaturesScaled { deviations } => Some(Learned::Scales(deviations)),
            KnowledgeChange::ReferenceDrawn(reference) => Some(Learned::Reference(reference)),
            // Elsewhere there were labels enough for it.
            KnowledgeChange::Followed {
                task, donor: None, ..
            } => Some(Learned::Known(task)),
            _ => None,
        });
    deployment.into_iter().chain(scales).collect()
}

/// The tasks that are defined elsewhere and taken in.
fn tasks_of(outcome: TrainOutcome) -> Vec<TaskDefinition> {
    let changes = outcome.changes.into_iter();
    let tasks = changes.filter_map(|change| match change {
        KnowledgeChange::TaskDefined(task) => Some(task),
        _ => None,
    });
    tasks.collect()
}

/// How many samples of a batch are taken for those of unseen tasks.
fn strange(scored: Rc<Scored>) -> Option<Effect> {
    let unseen = scored.recognized.as_ref()?.unseen.iter();
    let count = unseen.filter(|unseen| **unseen).count() as u64;
    (count > 0).then_some(Effect::Unseen(count))
}

/// An order is known from the epoch on in which it was given.
fn waiting(order: TrainOrder) -> Effect {
    Effect::Change(KnowledgeChange::StageMoved(StageMoved {
        model: order.model,
        stage: StageKind::Train,
        state: StageState::Waiting,
        labelled: order.labelled,
        clock: order.clock,
        initial: order.initial,
        recent: order.recent,
        detail: order.reason,
    }))
}

fn deployed(outcome: TrainOutcome) -> Vec<Effect> {
    let mut effects: Vec<Effect> = outcome.changes.into_iter().map(Effect::Change).collect();
    if let Some(Deployment::Deploy(model)) = outcome.deployment {
        effects.push(Effect::Model(model.hash, model.onnx));
    }
    let models = outcome.models.into_iter();
    effects.extend(models.map(|(hash, onnx)| Effect::Model(hash, onnx)));
    effects
}
