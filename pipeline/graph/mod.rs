//! The dataflow graph: every worker builds the same, stage by stage.
//!
//! ```text
//! ingest ─► predict ─► label ─► unseen ─► learn ─► train ─► commit
//!    ▲         ▲                             │        │
//!    └─────────┴────── feedback, one epoch later ─────┘
//! ```

mod feedback;
mod ingest;
mod label;
mod learn;
mod predict;
mod sessions;
mod train;
mod unseen;

use perennial_connectors::onnx::Runtime;
use perennial_operators::commit::commit;
use perennial_operators::epochs::OnFailure;
use perennial_operators::flow::Predicted;
use perennial_operators::ingest::Pace;
use perennial_operators::learn::FirstModelGate;
use perennial_operators::share::SharePolicy;
use perennial_operators::{Epoch, Failure};
use timely::dataflow::operators::probe::Handle;
use timely::dataflow::operators::{Concatenate, Probe};
use timely::worker::Worker;

use self::train::Trainers;
use crate::commit::committer::CommitSender;
use crate::config::Settings;
use crate::input::reader::Channel;
use crate::learning::Learner;
use crate::link::inbox::LinkInbox;
use crate::restore::{Restored, Shard};

/// Appends the predictions of a batch to a buffer, in the format of their output.
pub type Render = Box<dyn FnMut(&Predicted, &mut Vec<u8>)>;

/// What one worker brings to the graph.
pub struct WorkerParts {
    /// Paces the source; its probe follows the commit.
    pub pace: Pace,
    /// Its reader, if it has one.
    pub reader: Option<Channel>,
    /// The learner, on worker 0.
    pub learner: Option<Learner>,
    /// The inbox of the link, on worker 0.
    pub inbox: Option<LinkInbox>,
    /// Holds samples back until there is a first model.
    pub gate: FirstModelGate,
    /// What is shared, if anything is.
    pub share: Option<SharePolicy>,
    /// The way to the committer, on worker 0.
    pub offer: Option<CommitSender>,
    /// Renders predictions, if they are written.
    pub renderer: Option<Render>,
    /// Runs models.
    pub runtime: Runtime,
    /// Called when the source fails: what it read before is still to be committed.
    pub on_source_failure: OnFailure,
    /// Called when an operator fails: the run is over.
    pub on_failure: OnFailure,
}

/// Builds the graph on a worker. The handle tells which epochs are with the committer.
pub fn build(
    worker: &mut Worker,
    settings: &Settings,
    restored: &Restored,
    parts: WorkerParts,
) -> Result<Handle<Epoch>, Failure> {
    let shard = Shard {
        worker: worker.index(),
        workers: worker.peers(),
    };
    let start = restored.start(settings, shard)?;
    let predictor = predict::predictor(settings, parts.runtime, shard.workers, start.predict)?;
    let trainers = Trainers {
        learner: parts.learner,
        inbox: parts.inbox,
        gate: parts.gate,
    };
    let probe = parts.pace.probe.clone();
    let (reader, pace, failed) = (parts.reader, parts.pace, &parts.on_failure);
    worker.dataflow_named("perennial", |scope| {
        let (feedback, closing) = feedback::open(scope);
        let source_failed = parts.on_source_failure;
        let ingested = ingest::build(
            scope,
            settings,
            reader,
            pace,
            start.ingest,
            &feedback,
            source_failed,
        );
        let predicted = predict::build(&ingested, predictor, parts.renderer, &feedback, failed);
        let labelled = label::build(&predicted, parts.share, start.label, &feedback, failed);
        let resolved = unseen::build(
            &ingested,
            &predicted,
            &labelled,
            start.unseen,
            &feedback,
            failed,
        );
        let learned = learn::build(settings, &predicted, &resolved, start.learn);
        let trained = train::build(
            scope,
            settings,
            &predicted,
            &learned,
            trainers,
            start.train,
            &feedback,
            failed,
        );
        let outcomes = trained.outcomes;
        closing.close(
            feedback.adopted,
            &ingested,
            &predicted,
            &resolved,
            &learned,
            outcomes,
        );
        let effects = scope.concatenate([
            ingested.effects,
            predicted.effects,
            labelled.effects,
            resolved.effects,
            learned.effects,
            trained.effects,
        ]);
        commit(effects, parts.offer).probe_with(&probe);
    });
    Ok(probe)
}
