//! Feedback: what inference and allocation hear one epoch later.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::change::AdapterMoved;
use super::training::Deployment;
use crate::algorithms::recognize::{Calibration, Reference};
use crate::algorithms::unseen::{Region, Trial};
use crate::data::{RecentMoved, TaskDefinition, TaskId};

/// What inference is told over the feedback edge.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Learned {
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

impl Learned {
    /// Its place among what arrives for an epoch: the same deployments come last there as in the knowledge base.
    pub(crate) fn place(&self) -> impl Ord + use<> {
        let deployment = match self {
            Learned::Deployment(deployment) => Some(deployment.place()),
            _ => None,
        };
        (self.task(), deployment)
    }

    /// The task that it is about.
    pub fn task(&self) -> TaskId {
        match self {
            Learned::Deployment(deployment) => deployment.task(),
            Learned::Adapter(moved) => moved.task,
            Learned::Recent(moved) => moved.task,
            Learned::Known(task) => *task,
            Learned::Trial(trial) => trial.task,
            Learned::Scales(_)
            | Learned::Reference(_)
            | Learned::Calibration(_)
            | Learned::Regions(_) => TaskId::BASE,
        }
    }
}

/// What is known of unseen tasks from the next epoch on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Settled {
    /// A task is defined.
    Defined(TaskId),
    /// A task is that of a region, and not defined yet.
    Region(TaskId),
    /// The region of a task is no more.
    Dissolved(TaskId),
    /// A task is another.
    Alias(TaskId, TaskDefinition),
    /// The label of this sample is asked for.
    Requested(u64),
}
