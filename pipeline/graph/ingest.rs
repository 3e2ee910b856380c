//! Stage ingest of the graph: reads epochs, allocates their samples to tasks, defines new tasks.

use perennial_operators::Epoch;
use perennial_operators::epochs::{Epochs, OnFailure};
use perennial_operators::flow::{Allocated, Effect, KnowledgeChange, Phase};
use perennial_operators::ingest::{Pace, allocate, define, source};
use timely::dataflow::Scope;
use timely::dataflow::operators::Concat;
use timely::dataflow::operators::core::Filter;
use timely::dataflow::operators::vec::Map;

use super::streams::{FeedbackStreams, IngestStreams};
use crate::config::Settings;
use crate::input::reader::Channel;
use crate::restore::IngestStart;

/// What a worker's source reads with.
pub struct SourceParts {
    /// The worker's reader, if it has one.
    pub reader: Option<Channel>,
    /// Holds the source back; its probe follows the commit.
    pub pace: Pace,
    /// Called when the source fails: epochs that it has opened are still to be committed.
    pub on_failure: OnFailure,
}

/// Builds the stage.
pub(super) fn build<'scope>(
    scope: Scope<'scope, Epoch>,
    settings: &Settings,
    parts: SourceParts,
    start: IngestStart,
    feedback: &FeedbackStreams<'scope>,
) -> IngestStreams<'scope> {
    let (reader, pace) = (parts.reader, parts.pace);
    let (slices, intake) = source(scope, reader, start.epoch, pace, parts.on_failure);
    let allocated = allocate(slices, feedback.tasks.clone(), start.allocator);
    let defining = if settings.defines_by_groups() {
        allocated.clone().filter(|batch| is_bootstrap(batch))
    } else {
        allocated.clone()
    };
    let undefined = allocated.clone().each("CountUndefined", |batch| {
        (batch.undefined > 0).then_some(Effect::Undefined(batch.undefined))
    });
    let defined = define(defining, start.defined);
    let changes = defined.clone().map(KnowledgeChange::TaskDefined);
    IngestStreams {
        allocated,
        defined,
        effects: intake.concat(changes.map(Effect::from)).concat(undefined),
    }
}

fn is_bootstrap(batch: &Allocated) -> bool {
    matches!(batch.header.phase, Phase::Bootstrap | Phase::BootstrapEnds)
}
