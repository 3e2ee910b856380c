//! The models of one worker: sessions of ONNX Runtime, as many as their memory allows.

use std::sync::Arc;

use ndarray::{ArrayView2, ArrayViewMut2};
use perennial_connectors::onnx::{Runtime, Session, session_bytes};
use perennial_operators::predict::Models;
use perennial_operators::{Failure, ModelId};
use rustc_hash::FxHashMap;

use crate::fault;

/// A session, and when it was last asked.
struct LoadedSession {
    session: Session,
    bytes: usize,
    asked: u64,
}

/// Models by their ONNX bytes, which all workers share, and sessions of those that were asked last. Where there is no room
/// for a session, the one that was not asked for the longest time goes; it is made again when its model is asked.
pub struct Sessions {
    runtime: Runtime,
    features: usize,
    /// How many values an answer has.
    width: usize,
    /// The most bytes that sessions may take; one there always is.
    bound: usize,
    models: FxHashMap<ModelId, Arc<Vec<u8>>>,
    loaded: FxHashMap<ModelId, LoadedSession>,
    /// Bytes that sessions take.
    taken: usize,
    /// Questions so far.
    asked: u64,
    evicted: u64,
}

impl Sessions {
    /// No model yet.
    pub fn new(runtime: Runtime, features: usize, width: usize, bound: usize) -> Self {
        Sessions {
            runtime,
            features,
            width,
            bound,
            models: FxHashMap::default(),
            loaded: FxHashMap::default(),
            taken: 0,
            asked: 0,
            evicted: 0,
        }
    }

    /// Makes the session of a model.
    fn make(&mut self, model: ModelId, onnx: &[u8]) -> Result<(), Failure> {
        self.drop_session(model);
        let bytes = session_bytes(onnx.len());
        while self.taken + bytes > self.bound {
            let oldest = self.loaded.iter().min_by_key(|(_, loaded)| loaded.asked);
            let Some(oldest) = oldest.map(|(model, _)| *model) else {
                break;
            };
            self.drop_session(oldest);
            self.evicted += 1;
        }
        let session = self.runtime.session(onnx, self.features, self.width)?;
        self.taken += bytes;
        let loaded = LoadedSession {
            session,
            bytes,
            asked: self.asked,
        };
        self.loaded.insert(model, loaded);
        Ok(())
    }

    fn drop_session(&mut self, model: ModelId) {
        if let Some(loaded) = self.loaded.remove(&model) {
            self.taken -= loaded.bytes;
        }
    }
}

impl Models for Sessions {
    fn load(&mut self, model: ModelId, onnx: &Arc<Vec<u8>>) -> Result<(), Failure> {
        self.make(model, onnx)?;
        self.models.insert(model, onnx.clone());
        Ok(())
    }

    fn unload(&mut self, model: ModelId) {
        // Its successor answers on this worker, and may not on others yet.
        fault::point("swap: replaced");
        self.models.remove(&model);
        self.drop_session(model);
    }

    fn predict(
        &mut self,
        model: ModelId,
        features: ArrayView2<'_, f32>,
        probabilities: ArrayViewMut2<'_, f32>,
    ) -> Result<(), Failure> {
        self.asked += 1;
        if !self.loaded.contains_key(&model) {
            let Some(onnx) = self.models.get(&model).cloned() else {
                return Err(format!(
                    "model {} of task {} is not loaded",
                    model.version, model.task
                )
                .into());
            };
            self.make(model, &onnx)?;
        }
        if let Some(loaded) = self.loaded.get_mut(&model) {
            loaded.asked = self.asked;
            loaded.session.predict(features, probabilities)?;
        }
        Ok(())
    }
}

impl Drop for Sessions {
    fn drop(&mut self) {
        if self.evicted > 0 {
            tracing::info!(
                evicted = self.evicted,
                bytes = self.bound,
                "sessions of models were evicted: they take more than inference.memory_bytes"
            );
        }
    }
}
