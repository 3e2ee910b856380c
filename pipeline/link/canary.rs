//! Canaries: edges that get a model first if it replaces another one. Once they have shared enough
//! samples that came since its training, the two models are compared on these. The new one is then
//! rolled back, or promoted to all edges.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use perennial_connectors::knowledge_base::{ModelRecord, View};
use perennial_operators::ModelId;
use perennial_operators::flow::{KnowledgeChange, TrainOutcome};

use super::common::RETRY_PAUSE;
use super::outcomes::{LinkOutcomes, hand_over};
use super::publish::on_trial;
use crate::config::CanaryConfig;
use crate::error::Error;
use crate::learning::{TrainingContext, review};

/// Starts a thread that judges models on trial. It ends when the run is to stop.
pub fn judge(
    context: Arc<TrainingContext>,
    canary: CanaryConfig,
    stop: Arc<AtomicBool>,
) -> (LinkOutcomes, JoinHandle<()>) {
    let (sender, outcomes) = LinkOutcomes::new();
    let thread = std::thread::spawn(move || {
        let is_stopped = || stop.load(Ordering::Relaxed);
        let mut trials = Trials::default();
        while !is_stopped() {
            match trials.ended(&context, &canary) {
                Ok(outcomes) => {
                    for outcome in outcomes {
                        hand_over(&sender, outcome, &is_stopped);
                    }
                }
                Err(error) => tracing::error!("cannot judge canaries: {error}"),
            }
            std::thread::sleep(RETRY_PAUSE);
        }
    });
    (outcomes, thread)
}

/// The version that the other edges have: the latest before the model on trial that is promoted or
/// has replaced none.
fn stable(view: &View<'_>, on_trial: &ModelRecord) -> Result<u32, Error> {
    let task = on_trial.trained.model.task;
    let mut record = on_trial.clone();
    while record.promoted.is_none()
        && let Some(version) = record.replaced
        && let Some(predecessor) = view.model(ModelId { task, version })?
    {
        record = predecessor;
    }
    Ok(record.trained.model.version)
}

/// Models on trial.
#[derive(Default)]
struct Trials {
    /// Number of samples that the canaries had shared when a model was first seen on trial.
    began: BTreeMap<ModelId, u64>,
    /// Models that have been judged, though the verdict may not be committed yet.
    judged: BTreeSet<ModelId>,
}

impl Trials {
    /// The verdicts on models with enough samples.
    fn ended(
        &mut self,
        context: &TrainingContext,
        canary: &CanaryConfig,
    ) -> Result<Vec<TrainOutcome>, Error> {
        let view = context.knowledge.view();
        let edges = view.edges()?;
        let canaries = canary.edges.iter().filter_map(|edge| edges.get(edge));
        let shared: u64 = canaries.map(|progress| progress.samples).sum();
        let mut outcomes = Vec::new();
        for (task, record) in view.tasks()? {
            let Some(on_trial) = on_trial(&view, task, &record)? else {
                continue;
            };
            let model = on_trial.trained.model;
            let began = *self.began.entry(model).or_insert(shared);
            if shared - began < canary.samples || self.judged.contains(&model) {
                continue;
            }
            let reviewed = review(context, model, stable(&view, &on_trial)?)?;
            // The samples may be of other tasks.
            if !reviewed.is_judged {
                continue;
            }
            self.judged.insert(model);
            let promoted = KnowledgeChange::ModelPromoted { model };
            let change = reviewed.change().unwrap_or(promoted);
            outcomes.push(TrainOutcome {
                model,
                changes: vec![change],
                deployment: reviewed.deployment(),
                models: Vec::new(),
            });
        }
        Ok(outcomes)
    }
}
