//! Candidates: models that a training stage builds, and the recipes for them.

use perennial_connectors::trainer::Trained;
use perennial_operators::flow::{DeployedModel, Remodeling};
use perennial_operators::{ModelId, RetainedSample, TaskId};

/// A way to build a model for a task.
pub enum Recipe {
    /// Fit on the task's samples alone.
    Scratch,
    /// Fit trees that correct the logits of this model.
    WarmStart(DeployedModel),
    /// Fit on the task's samples and these samples of a relative.
    Pooled(TaskId, Vec<RetainedSample>),
    /// Fit on the task's samples since drift, the first of which has this sequence number.
    Recent(u64),
    /// Take this earlier model of the task as it is.
    Recalled(ModelId),
    /// Take this model, trained elsewhere, as it is.
    Adopted(DeployedModel),
}

/// A model that was built by a recipe.
pub struct Candidate {
    /// The recipe.
    pub recipe: Recipe,
    /// The model.
    pub trained: Trained,
}

impl Candidate {
    /// The recipe, as the knowledge base stores it.
    pub fn remodeling(&self) -> Remodeling {
        match &self.recipe {
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

    /// Name of the recipe in stage details.
    pub fn name(&self) -> &'static str {
        match &self.recipe {
            Recipe::Scratch => "from scratch",
            Recipe::WarmStart(_) => "warm start",
            Recipe::Pooled(..) => "pooled",
            Recipe::Recent(_) => "from samples since the drift",
            Recipe::Recalled(_) => "an earlier model",
            Recipe::Adopted(_) => "a model of another site",
        }
    }
}
