//! Stages evaluate and deploy: the best candidate passes the gate and is deployed, or is refused.

use std::collections::BTreeMap;
use std::sync::Arc;

use perennial_operators::TaskId;
use perennial_operators::flow::{
    DeployedModel, Deployment, KnowledgeChange, ModelEvaluated, StageKind, StageState, TrainOrder,
    TrainOutcome,
};

use super::candidate::Candidate;
use super::gate::worst_regression;
use super::judge::Judgement;
use super::paired_gain::PairedGain;
use super::review_result::ReviewResult;
use super::round::{JudgedCandidate, OrderSamples, TrainingRound};
use super::stage_log::StageLog;

impl TrainingRound<'_> {
    /// Logs the training and the evaluation of the best candidate, and deploys or refuses it.
    /// `detail` is that of its training so far.
    pub(super) fn evaluate(
        &self,
        order: &TrainOrder,
        mut log: StageLog<'_>,
        best: JudgedCandidate,
        samples: OrderSamples,
        mut detail: String,
        reviewed: &ReviewResult,
    ) -> TrainOutcome {
        let JudgedCandidate {
            candidate,
            judgement,
        } = best;
        log.trained(&candidate, samples.split.fitted.len(), samples.latest);
        for (name, value) in &candidate.trained.metrics {
            detail.push_str(&format!(", {name} {value}"));
        }
        log.moved(StageKind::Train, StageState::Completed, &detail);
        log.moved(StageKind::Evaluate, StageState::Waiting, "");
        log.moved(StageKind::Evaluate, StageState::Running, "");
        let refusal = self.gate(order.model.task, &judgement, &samples);
        let evaluated = judgement.evaluated;
        log.changes
            .push(KnowledgeChange::ModelEvaluated(evaluated.clone()));
        let why = format!("{}, {}", candidate.name(), judgement.why);
        log.moved(
            StageKind::Evaluate,
            StageState::Completed,
            refusal.as_deref().unwrap_or(&why),
        );
        if judgement.deploys && refusal.is_none() {
            self.deploy(order, log, candidate, samples, &evaluated)
        } else {
            self.refuse(order, log, reviewed)
        }
    }

    /// Why the gate refuses a model: a task below that would use it would get worse. None if none
    /// does.
    fn gate(&self, task: TaskId, judgement: &Judgement, samples: &OrderSamples) -> Option<String> {
        let mut gains: BTreeMap<TaskId, Vec<PairedGain>> = BTreeMap::new();
        for (sample, gain) in samples.split.judged.iter().zip(&judgement.gains) {
            let Some(leaf) = samples.leaf_of.get(&sample.sequence) else {
                continue;
            };
            let path = self.path(*leaf);
            let below = path.iter().take_while(|below| **below != task);
            let owns = |task: &&TaskId| self.tasks.get(task).is_some_and(|r| r.deployed.is_some());
            // Samples below a model of its own are predicted by that one, before and after.
            if !below.clone().any(|below| owns(&below)) {
                below.for_each(|below| gains.entry(*below).or_default().push(*gain));
            }
        }
        let (related, worse) = worst_regression(&gains, self.context.gate_margin)?;
        let name = self.tasks.get(&related).map(|r| r.definition.name.clone());
        Some(format!(
            "{} would get worse by {worse:.4} nats (gate.margin)",
            name.as_deref().unwrap_or("a related task"),
        ))
    }

    /// Deploys a candidate, fitted once more with the samples that it was judged on if these may be
    /// fitted on.
    fn deploy(
        &self,
        order: &TrainOrder,
        mut log: StageLog<'_>,
        candidate: Candidate,
        samples: OrderSamples,
        evaluated: &ModelEvaluated,
    ) -> TrainOutcome {
        log.moved(StageKind::Deploy, StageState::Running, "");
        let model = match samples.split.all() {
            None => candidate,
            Some(all) => match self.fit(order.model, candidate.recipe, &all, log.deadline) {
                Ok(model) => {
                    log.trained(&model, all.len(), samples.latest);
                    model
                }
                Err(reason) => {
                    log.moved(StageKind::Deploy, StageState::Failed, &reason);
                    return log.outcome(None);
                }
            },
        };
        log.changes
            .push(KnowledgeChange::ModelDeployed { model: order.model });
        log.moved(StageKind::Deploy, StageState::Completed, "");
        log.outcome(Some(Deployment::Deploy(DeployedModel {
            model: order.model,
            hash: model.trained.hash,
            onnx: Arc::new(model.trained.onnx),
            evidence: evaluated.evidence(),
            scale: evaluated.scale,
        })))
    }

    /// Refuses a candidate. The base task keeps its model. Any other task is not better off with a
    /// model of its own: if it has one, it is retired, and the task inherits again.
    fn refuse(
        &self,
        order: &TrainOrder,
        mut log: StageLog<'_>,
        reviewed: &ReviewResult,
    ) -> TrainOutcome {
        let task = order.model.task;
        match reviewed.deployed.filter(|_| task != TaskId::BASE) {
            None => log.outcome(reviewed.deployment()),
            Some(model) => {
                log.changes.push(KnowledgeChange::ModelRetired { model });
                // Inference has not received the rollback yet, and still has the dropped model.
                let retired = reviewed.dropped.unwrap_or(model);
                log.outcome(Some(Deployment::Retire(retired)))
            }
        }
    }
}
