//! Stage ingest of the graph: reads epochs, allocates their samples to tasks, defines new tasks.

use std::rc::Rc;

use perennial_operators::epochs::OnFailure;
use perennial_operators::flow::{Allocated, Effect, Flow, KnowledgeChange, Phase};
use perennial_operators::ingest::{Pace, allocate, define, source};
use perennial_operators::{Epoch, TaskDefinition};
use timely::dataflow::Scope;
use timely::dataflow::operators::Concat;
use timely::dataflow::operators::core::Filter;
use timely::dataflow::operators::vec::Map;

use super::feedback::FeedbackStreams;
use crate::config::Settings;
use crate::input::reader::Channel;
use crate::restore::IngestStart;

/// Streams of the stage ingest.
pub(super) struct IngestStreams<'scope> {
    /// Batches whose samples are allocated to tasks.
    pub allocated: Flow<'scope, Rc<Allocated>>,
    /// Tasks that are defined by their first sample.
    pub defined: Flow<'scope, TaskDefinition>,
    /// What is committed.
    pub effects: Flow<'scope, Effect>,
}

pub(super) fn build<'scope>(
    scope: Scope<'scope, Epoch>,
    settings: &Settings,
    reader: Option<Channel>,
    pace: Pace,
    start: IngestStart,
    feedback: &FeedbackStreams<'scope>,
    on_source_failure: OnFailure,
) -> IngestStreams<'scope> {
    let (slices, intake) = source(scope, reader, start.epoch, pace, on_source_failure);
    let allocated = allocate(slices, feedback.tasks.clone(), start.allocator);
    let defines = match &settings.unseen {
        // After the bootstrap, groups find out what becomes a task.
        Some(rules) if rules.attributes => allocated.clone().filter(|it| is_bootstrap(it)),
        _ => allocated.clone(),
    };
    let defined = define(defines, start.defined);
    let changes = defined.clone().map(KnowledgeChange::TaskDefined);
    IngestStreams {
        allocated,
        defined,
        effects: intake.concat(changes.map(Effect::from)),
    }
}

fn is_bootstrap(allocated: &Allocated) -> bool {
    matches!(
        allocated.header.phase,
        Phase::Bootstrap | Phase::BootstrapEnds
    )
}
