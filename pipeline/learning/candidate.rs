//! Candidates: models that a training stage fits, and the recipes for them.

use perennial_connectors::trainer::Trained;
use perennial_operators::flow::{DeployedModel, Remodeling};
use perennial_operators::{ModelId, RetainedSample, TaskId};

/// A way to build a model.
pub enum Recipe {
    /// From the task's samples alone.
    Scratch,
    /// Its trees correct another model.
    WarmStart(DeployedModel),
    /// From a relative's samples as well.
    Pooled(TaskId, Vec<RetainedSample>),
    /// From the task's samples since its losses rose, the first of which has this sequence number.
    Recent(u64),
    /// It is an earlier model of the task.
    Recalled(ModelId),
    /// It is a model that was trained elsewhere.
    Adopted(DeployedModel),
}

/// A model that was built.
pub struct Candidate {
    /// How.
    pub way: Recipe,
    /// The model.
    pub trained: Trained,
}

impl Candidate {
    /// How it was built, as it is remembered.
    pub fn remodeling(&self) -> Remodeling {
        match &self.way {
            Recipe::Scratch => Remodeling::Scratch,
            Recipe::WarmStart(from) => Remodeling::WarmStart { from: from.model },
            Recipe::Pooled(with, _) => Remodeling::Pooled { with: *with },
            Recipe::Recent(_) => Remodeling::Recent,
            Recipe::Recalled(model) => Remodeling::Recalled {
                version: model.version,
            },
            Recipe::Adopted(from) => Remodeling::Adopted { model: from.model },
        }
    }

    /// The same for people.
    pub fn name(&self) -> &'static str {
        match &self.way {
            Recipe::Scratch => "from scratch",
            Recipe::WarmStart(_) => "warm start",
            Recipe::Pooled(..) => "pooled",
            Recipe::Recent(_) => "from samples since the drift",
            Recipe::Recalled(_) => "an earlier model",
            Recipe::Adopted(_) => "a model of another site",
        }
    }
}
