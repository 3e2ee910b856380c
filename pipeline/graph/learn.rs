//! Stage learn of the graph: statistics, drift detectors, adapters and memory learn from labels.

use perennial_operators::flow::{Effect, KnowledgeChange};
use perennial_operators::learn::{
    adapt, drift, recent, retain, statistics, strangeness, summarize,
};
use perennial_operators::unseen::known;
use timely::dataflow::operators::Concat;
use timely::dataflow::operators::generic::operator::empty;
use timely::dataflow::operators::vec::Map;

use super::streams::{LearnStreams, PredictStreams, UnseenStreams};
use crate::config::Settings;
use crate::restore::LearnStart;

/// Builds the stage. What the settings leave out is an empty stream.
pub(super) fn build<'scope>(
    settings: &Settings,
    predicted: &PredictStreams<'scope>,
    resolved: &UnseenStreams<'scope>,
    start: LearnStart,
) -> LearnStreams<'scope> {
    let labelled = &resolved.labelled;
    let scope = labelled.scope();
    let rules = settings.inference_rules();
    let summaries = summarize(labelled.clone(), rules.kind);
    let window = settings.config().triggers.window as i64;
    let (views, statistics) = statistics(summaries, window, start.statistics);
    let (drifted, detectors) = if settings.drift.any() {
        let strangeness = match settings.drift.features {
            Some(_) => strangeness(predicted.predicted.clone()),
            None => empty(scope),
        };
        drift(views.clone(), strangeness, settings.drift, start.detectors)
    } else {
        (empty(scope), empty(scope))
    };
    let known = match &settings.unseen {
        Some(rules) => known(views.clone(), rules.known_after, start.known),
        None => empty(scope),
    };
    let adapters = if rules.adapters {
        adapt(labelled.clone(), rules.kind, start.adapters)
    } else {
        empty(scope)
    };
    let recents = match settings.recent_samples() {
        0 => empty(scope),
        most => recent(labelled.clone(), most, start.recent_epochs),
    };
    let neighbours = match settings.neighbours() {
        0 => empty(scope),
        _ => recents.clone(),
    };
    let retained = retain(labelled.clone(), settings.memory_rules(), start.memory);
    let adapted = adapters.clone().map(KnowledgeChange::AdapterMoved);
    let changes = adapted.concat(recents.map(KnowledgeChange::RecentMoved));
    LearnStreams {
        views,
        drifted,
        known,
        adapters,
        neighbours,
        effects: changes
            .map(Effect::from)
            .concat(statistics)
            .concat(detectors)
            .concat(retained),
    }
}
