//! Feedback: what one epoch teaches allocation, inference and the join of the next.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::change::{AdapterMoved, KnowledgeChange};
use super::training::{Deployment, TrainOutcome};
use crate::algorithms::recognize::{Calibration, Reference};
use crate::algorithms::unseen::{Region, Trial};
use crate::data::{RecentMoved, TaskDefinition, TaskId};

/// Feedback for inference, in force from the next epoch on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Feedback {
    /// A change of the deployed models.
    Deployment(Deployment),
    /// The new adapter of a task.
    Adapter(AdapterMoved),
    /// Labelled samples of a task that came in, and those that ceased to be recent.
    Recent(RecentMoved),
    /// Standard deviation of each feature.
    Scales(Vec<f32>),
    /// A task that has enough labels to be known.
    Known(TaskId),
    /// A summary of the samples of known tasks, which recognition compares samples with.
    Reference(Arc<Reference>),
    /// Novelty scores of samples of known tasks, which recognition compares scores with.
    Calibration(Arc<Calibration>),
    /// All regions of features that hold samples of one task, known or not.
    Regions(Arc<Vec<Region>>),
    /// A trial of an unseen task on the tasks beside it.
    Trial(Arc<Trial>),
}

impl Feedback {
    /// Position among the feedback of an epoch. Of several deployments for one task, the one that
    /// comes last, and so wins, is the one that wins in the knowledge base.
    pub(crate) fn order(&self) -> impl Ord + use<> {
        let deployment = match self {
            Feedback::Deployment(deployment) => Some(deployment.order()),
            _ => None,
        };
        (self.task(), deployment)
    }

    /// The task that the feedback is about; the base task where it is about all tasks.
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

/// Update about a task or a label, in force on every worker from the next epoch on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TaskUpdate {
    /// A task was defined.
    Defined(TaskId),
    /// A region of features was opened for an unseen task, which is not defined yet.
    RegionOpened(TaskId),
    /// The region of a task was closed.
    RegionClosed(TaskId),
    /// The first task turned out to be the second under another name.
    Aliased(TaskId, TaskDefinition),
    /// The label of the sample with this sequence number was requested.
    LabelRequested(u64),
}

impl TrainOutcome {
    /// Turns the outcome into feedback for inference.
    pub fn feedback(self) -> Vec<Feedback> {
        let deployment = self.deployment.map(Feedback::Deployment);
        let learned = self.changes.into_iter().filter_map(|change| match change {
            KnowledgeChange::FeaturesScaled { deviations } => Some(Feedback::Scales(deviations)),
            KnowledgeChange::ReferenceDrawn(reference) => Some(Feedback::Reference(reference)),
            // Whoever published an update of the task had enough labels for it to be known.
            KnowledgeChange::Followed {
                task, donor: None, ..
            } => Some(Feedback::Known(task)),
            _ => None,
        });
        deployment.into_iter().chain(learned).collect()
    }
}
