//! The part of the graph in which it is found what unseen tasks are.

use std::rc::Rc;

use perennial_operators::flow::{
    Flow, KnowledgeChange, LabelledEpoch, Learned, Scored, Settled, TrainOutcome,
};
use perennial_operators::unseen::{GroupRules, Groups, HoldRules, Sighting, Told, group, hold};
use perennial_operators::{Failure, TaskDefinition};
use timely::dataflow::operators::Concat;
use timely::dataflow::operators::generic::operator::empty;
use timely::dataflow::operators::vec::Map;

use crate::config::Settings;
use crate::restore::Restored;

/// What it learns from.
pub(super) struct Streams<'scope> {
    /// What was predicted.
    pub scored: Flow<'scope, Rc<Scored>>,
    /// Labels that became known.
    pub labelled: Flow<'scope, Rc<LabelledEpoch>>,
    /// What is known of unseen tasks from the epoch on.
    pub settled: Flow<'scope, Settled>,
    /// Tasks that are defined without having been unseen.
    pub defined: Flow<'scope, TaskDefinition>,
    /// What trainings yielded.
    pub outcomes: Flow<'scope, TrainOutcome>,
    /// How samples of known tasks are scored.
    pub calibration: Flow<'scope, Learned>,
}

/// Whether attribute values tell that a task is unseen.
pub(super) fn is_told_by_attributes(settings: &Settings) -> bool {
    let rules = settings.unseen.as_ref();
    rules.is_some_and(|rules| rules.attributes)
}

/// Unseen tasks as a worker keeps them, and what it looks for, if samples of them are recognized.
pub(super) fn groups(
    settings: &Settings,
    restored: &Restored,
    worker: usize,
) -> Option<(Groups, HoldRules)> {
    let rules = settings.unseen.as_ref()?;
    let requests = settings.config().label_requests.as_ref();
    let per_day = requests.map(|requests| requests.per_day);
    let kept = GroupRules {
        // Without any label nothing can be tried.
        known_after: rules.known_after.unsigned_abs().max(1),
        groups: rules.groups,
        false_alarm: rules.false_alarm,
    };
    let looks_for = HoldRules {
        kind: settings.label_kind(),
        by_attributes: is_told_by_attributes(settings),
        asks: per_day.is_some(),
    };
    Some((restored.groups(kept, per_day, worker), looks_for))
}

/// Holds labels of unseen tasks until it is known what these are. Without any, all labels pass.
pub(super) fn learn<'scope>(
    streams: &Streams<'scope>,
    groups: Option<(Groups, HoldRules)>,
    restored: &Restored,
    fail: impl Fn(Failure) + Clone + 'static,
) -> Told<'scope> {
    let scope = streams.scored.scope();
    let Some((groups, looks_for)) = groups else {
        return Told {
            labelled: streams.labelled.clone(),
            settled: empty(scope),
            trials: empty(scope),
            regions: empty(scope),
            effects: empty(scope),
        };
    };
    let (passed, sightings) = hold(
        streams.scored.clone(),
        streams.labelled.clone(),
        streams.settled.clone(),
        restored.settled(),
        looks_for,
        fail.clone(),
    );
    let sightings = sightings
        .concat(streams.defined.clone().map(Sighting::Defined))
        .concat(streams.outcomes.clone().flat_map(sightings_of))
        .concat(streams.calibration.clone().flat_map(calibration_of));
    let told = group(sightings, groups, fail);
    Told {
        labelled: told.labelled.concat(passed),
        ..told
    }
}

/// What groups are told of a training.
fn sightings_of(outcome: TrainOutcome) -> Vec<Sighting> {
    let changes = outcome.changes.into_iter();
    let told = changes.filter_map(|change| match change {
        KnowledgeChange::FeaturesScaled { deviations } => Some(Sighting::Scales(deviations)),
        KnowledgeChange::ReferenceDrawn(reference) => Some(Sighting::Reference(reference)),
        _ => None,
    });
    told.collect()
}

/// What groups are told of how known samples are scored.
fn calibration_of(learned: Learned) -> Option<Sighting> {
    match learned {
        Learned::Calibration(calibration) => Some(Sighting::Calibration(calibration)),
        _ => None,
    }
}
