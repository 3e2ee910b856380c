//! The dataflow graph. Every worker builds the same one, stage by stage.
//!
//! ```text
//! ingest ─► predict ─► label ─► unseen ─► learn ─► train ─► commit
//!    ▲         ▲                  │         │        │
//!    └─────────┴──────── feedback, one epoch later ──┘
//! ```
//!
//! A stage takes streams, its settings and its first state. It returns named streams and one stream
//! of effects: everything that the epoch's commit writes. All streams have epochs as timestamps.

mod feedback;
mod ingest;
mod label;
mod learn;
mod predict;
mod sessions;
mod streams;
mod train;
mod unseen;

use perennial_connectors::onnx::Runtime;
use perennial_operators::commit::commit;
use perennial_operators::epochs::OnFailure;
use perennial_operators::flow::Predicted;
use perennial_operators::share::SharePolicy;
use perennial_operators::{Epoch, Failure};
use timely::dataflow::operators::probe::Handle;
use timely::dataflow::operators::{Concatenate, Probe};
use timely::worker::Worker;

pub use self::ingest::SourceParts;
pub use self::train::Trainers;
use crate::commit::committer::CommitSender;
use crate::config::Settings;
use crate::restore::{Restored, Shard};

/// Appends the predictions of a batch to a buffer, in the format of their output.
pub type Render = Box<dyn FnMut(&Predicted, &mut Vec<u8>)>;

/// What one worker brings to the graph.
pub struct WorkerParts {
    /// Reader and pace of the source.
    pub source: SourceParts,
    /// Runs models.
    pub runtime: Runtime,
    /// Renders predictions, if they are written.
    pub renderer: Option<Render>,
    /// What may leave the site, if anything may.
    pub share: Option<SharePolicy>,
    /// Where new models come from.
    pub trainers: Trainers,
    /// Sends effects to the committer; on worker 0.
    pub commit: Option<CommitSender>,
    /// Called when an operator other than the source fails: the run is over.
    pub on_failure: OnFailure,
}

/// Builds the graph on a worker. The returned probe has passed an epoch once its effects are with
/// the committer.
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
    // The source is held back by how far the commit is.
    let probe = parts.source.pace.probe.clone();
    let on_failure = &parts.on_failure;
    worker.dataflow_named("perennial", |scope| {
        let (feedback, loops) = feedback::open(scope);
        let ingested = ingest::build(scope, settings, parts.source, start.ingest, &feedback);
        let predicted = predict::build(&ingested, predictor, parts.renderer, &feedback, on_failure);
        let labelled = label::build(&predicted, parts.share, start.label, &feedback, on_failure);
        let resolved = unseen::build(
            &ingested,
            &predicted,
            &labelled,
            start.unseen,
            &feedback,
            on_failure,
        );
        let learned = learn::build(settings, &predicted, &resolved, start.learn);
        let trained = train::build(
            settings,
            &predicted,
            &learned,
            parts.trainers,
            start.train,
            &feedback,
            on_failure,
        );
        loops.close(&ingested, &predicted, &resolved, &learned, &trained);
        let effects = scope.concatenate([
            ingested.effects,
            predicted.effects,
            labelled.effects,
            resolved.effects,
            learned.effects,
            trained.effects,
        ]);
        commit(effects, parts.commit).probe_with(&probe);
    });
    Ok(probe)
}
