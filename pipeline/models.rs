//! The models of one worker: a session of ONNX Runtime each.

use ndarray::{ArrayView2, ArrayViewMut2};
use perennial_connectors::onnx::{Runtime, Session};
use perennial_operators::infer::Models;
use perennial_operators::{Failure, ModelId};
use rustc_hash::FxHashMap;

use crate::fault;

/// Sessions by model.
pub struct Sessions {
    runtime: Runtime,
    features: usize,
    classes: usize,
    sessions: FxHashMap<ModelId, Session>,
}

impl Sessions {
    /// No session yet.
    pub fn new(runtime: Runtime, features: usize, classes: usize) -> Self {
        Sessions {
            runtime,
            features,
            classes,
            sessions: FxHashMap::default(),
        }
    }
}

impl Models for Sessions {
    fn load(&mut self, model: ModelId, onnx: &[u8]) -> Result<(), Failure> {
        let session = self.runtime.session(onnx, self.features, self.classes)?;
        self.sessions.insert(model, session);
        Ok(())
    }

    fn unload(&mut self, model: ModelId) {
        // Its successor answers on this worker, and may not on others yet.
        fault::point("swap: replaced");
        self.sessions.remove(&model);
    }

    fn predict(
        &mut self,
        model: ModelId,
        features: ArrayView2<'_, f32>,
        probabilities: ArrayViewMut2<'_, f32>,
    ) -> Result<(), Failure> {
        let Some(session) = self.sessions.get_mut(&model) else {
            return Err(format!(
                "model {} of task {} is not loaded",
                model.version, model.task
            )
            .into());
        };
        Ok(session.predict(features, probabilities)?)
    }
}
