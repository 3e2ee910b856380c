//! Feedback: what inference and allocation hear one epoch later.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::change::{AdapterMoved, KnowledgeChange};
use super::training::{Deployment, TrainOutcome};
use crate::algorithms::recognize::{Calibration, Reference};
use crate::algorithms::unseen::{Region, Trial};
use crate::data::{RecentMoved, TaskDefinition, TaskId};

/// What inference hears over the feedback edge, one epoch later.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Feedback {
    /// The models that answer change.
    Deployment(Deployment),
    /// A task's adapter has learned.
    Adapter(AdapterMoved),
    /// Labels came in for samples of a task.
    Recent(RecentMoved),
    /// How much each feature varies: its standard deviation.
    Scales(Vec<f32>),
    /// There are enough labels of a task for it to be known.
    Known(TaskId),
    /// What samples of known tasks look like.
    Reference(Arc<Reference>),
    /// How they are scored.
    Calibration(Arc<Calibration>),
    /// Where samples are that look like none of known tasks.
    Regions(Arc<Vec<Region>>),
    /// An unseen task is to be tried on the tasks beside it.
    Trial(Arc<Trial>),
}

impl Feedback {
    /// Its place among what arrives for an epoch: the same deployments come last there as in the knowledge base.
    pub(crate) fn place(&self) -> impl Ord + use<> {
        let deployment = match self {
            Feedback::Deployment(deployment) => Some(deployment.place()),
            _ => None,
        };
        (self.task(), deployment)
    }

    /// The task that it is about.
    pub fn task(&self) -> TaskId {
        match self {
            Feedback::Deployment(deployment) => deployment.task(),
            Feedback::Adapter(moved) => moved.task,
            Feedback::Recent(moved) => moved.task,
            Feedback::Known(task) => *task,
            Feedback::Trial(trial) => trial.task,
            Feedback::Scales(_)
            | Feedback::Reference(_)
            | Feedback::Calibration(_)
            | Feedback::Regions(_) => TaskId::BASE,
        }
    }
}

/// Update about a task or a label, which every worker hears one epoch later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TaskUpdate {
    /// A task is defined.
    Defined(TaskId),
    /// A region of features was opened; its task is not defined yet.
    RegionOpened(TaskId),
    /// The region of a task was closed.
    RegionClosed(TaskId),
    /// The first task is the second under another name.
    Aliased(TaskId, TaskDefinition),
    /// The label of the sample with this sequence number was asked for.
    LabelRequested(u64),
}

impl TrainOutcome {
    /// What inference learns from the outcome.
    pub fn feedback(self) -> Vec<Feedback> {
        let deployment = self.deployment.map(Feedback::Deployment);
        let learned = self.changes.into_iter().filter_map(|change| match change {
            KnowledgeChange::FeaturesScaled { deviations } => Some(Feedback::Scales(deviations)),
            KnowledgeChange::ReferenceDrawn(reference) => Some(Feedback::Reference(reference)),
            // Elsewhere there were labels enough for the task to be known.
            KnowledgeChange::Followed {
                task, donor: None, ..
            } => Some(Feedback::Known(task)),
            _ => None,
        });
        deployment.into_iter().chain(learned).collect()
    }
}
