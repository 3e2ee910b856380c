//! Canaries: a model that replaces another answers at some edges first. Once they have shared samples that neither of the two knew, the
//! two are compared on what came since; the new one is rolled back, or answers for all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use perennial_connectors::knowledge_base::{ModelRecord, View};
use perennial_operators::ModelId;
use perennial_operators::flow::{KnowledgeChange, TrainOutcome};

use super::common::PAUSE;
use super::inbox::{LinkInbox, hand_over};
use super::publish::on_trial;
use crate::config::CanaryConfig;
use crate::error::Error;
use crate::learning::{TrainingContext, review};

/// Judges models that are on trial, on a thread of its own, which ends when the run is to stop.
pub fn judge(
    workshop: Arc<TrainingContext>,
    canary: CanaryConfig,
    stop: Arc<AtomicBool>,
) -> (LinkInbox, JoinHandle<()>) {
    let (sender, inbox) = LinkInbox::new();
    let thread = std::thread::spawn(move || {
        let is_stopped = || stop.load(Ordering::Relaxed);
        let mut trials = Trials::default();
        while !is_stopped() {
            match trials.ended(&workshop, &canary) {
                Ok(outcomes) => {
                    for outcome in outcomes {
                        hand_over(&sender, outcome, &is_stopped);
                    }
                }
                Err(error) => tracing::error!("canaries cannot be judged: {error}"),
            }
            std::thread::sleep(PAUSE);
        }
    });
    (inbox, thread)
}

/// The version that the other edges have: the last one before a model on trial that was on none.
fn stable(view: &View<'_>, on_trial: &ModelRecord) -> Result<u32, Error> {
    let task = on_trial.trained.model.task;
    let mut record = on_trial.clone();
    while record.promoted.is_none()
        && let Some(version) = record.replaced
        && let Some(before) = view.model(ModelId { task, version })?
    {
        record = before;
    }
    Ok(record.trained.model.version)
}

/// Models on trial.
#[derive(Default)]
struct Trials {
    /// How many samples the canaries had shared when a model was first seen on trial.
    began: BTreeMap<ModelId, u64>,
    /// Those that have been judged; the knowledge base says so soon.
    judged: BTreeSet<ModelId>,
}

impl Trials {
    /// What becomes of those about which enough is known.
    fn ended(
        &mut self,
        workshop: &TrainingContext,
        canary: &CanaryConfig,
    ) -> Result<Vec<TrainOutcome>, Error> {
        let view = workshop.knowledge.view();
        let edges = view.edges()?;
        let shared = canary.edges.iter().filter_map(|edge| edges.get(edge));
        let shared: u64 = shared.map(|progress| progress.samples).sum();
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
            let reviewed = review(workshop, model, stable(&view, &on_trial)?)?;
            // There may be too few samples of this task yet.
            if !reviewed.is_judged {
                continue;
            }
            self.judged.insert(model);
            let change = reviewed.change();
            let change = change.unwrap_or(KnowledgeChange::ModelPromoted { model });
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
