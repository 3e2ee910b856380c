//! Models of one worker: a session of ONNX Runtime for each, within a memory bound.

use std::sync::Arc;

use ndarray::{ArrayView2, ArrayViewMut2};
use perennial_connectors::onnx::{Runtime, Session, session_bytes};
use perennial_operators::predict::Models;
use perennial_operators::{Failure, ModelId};
use rustc_hash::FxHashMap;

use crate::fault;

/// A session, with what it takes and when it was last used.
struct LoadedSession {
    session: Session,
    /// An estimate of its memory, bytes.
    bytes: usize,
    /// Number of the `predict` call that used it last.
    used: u64,
}

/// The ONNX bytes of all models, which workers share, and sessions of the most recently used ones.
///
/// When a new session would exceed the memory bound, the least recently used sessions are dropped.
/// A dropped session is made again when its model is next used. The models with which a run starts
/// get their sessions when they are first used, since there may be thousands of them.
pub struct Sessions {
    runtime: Runtime,
    features: usize,
    /// Number of columns of an output: one for each class, or one for a number.
    width: usize,
    /// Memory bound of all sessions, bytes. One session is kept even above it.
    bound: usize,
    models: FxHashMap<ModelId, Arc<Vec<u8>>>,
    loaded: FxHashMap<ModelId, LoadedSession>,
    /// Memory of all sessions, bytes.
    taken: usize,
    /// Number of `predict` calls so far.
    calls: u64,
    /// Number of sessions dropped for lack of room.
    evicted: u64,
}

impl Sessions {
    /// Sessions without any model; `bound` is their memory bound in bytes.
    pub fn new(runtime: Runtime, features: usize, width: usize, bound: usize) -> Self {
        Sessions {
            runtime,
            features,
            width,
            bound,
            models: FxHashMap::default(),
            loaded: FxHashMap::default(),
            taken: 0,
            calls: 0,
            evicted: 0,
        }
    }

    /// Makes the session of a model, and drops others until it has room.
    fn make(&mut self, model: ModelId, onnx: &[u8]) -> Result<(), Failure> {
        self.drop_session(model);
        let bytes = session_bytes(onnx.len());
        while self.taken + bytes > self.bound {
            let oldest = self.loaded.iter().min_by_key(|(_, loaded)| loaded.used);
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
            used: self.calls,
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
        if self.calls > 0 {
            self.make(model, onnx)?;
        }
        self.models.insert(model, onnx.clone());
        Ok(())
    }

    fn unload(&mut self, model: ModelId) {
        // The successor is deployed on this worker, and maybe not yet on others.
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
        self.calls += 1;
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
            loaded.used = self.calls;
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
                "model sessions were evicted: all together exceed inference.memory_bytes"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;
    use perennial_operators::TaskId;

    use super::*;

    #[test]
    fn models_of_the_start_are_loaded_on_first_use() {
        let runtime = Runtime::load().expect("ONNX Runtime");
        let mut sessions = Sessions::new(runtime, 2, 2, 1 << 20);
        let id = |task| ModelId {
            task: TaskId(task),
            version: 1,
        };
        let no_model = Arc::new(b"no model".to_vec());
        assert!(sessions.load(id(1), &no_model).is_ok());
        let (features, mut output) = (Array2::zeros((1, 2)), Array2::zeros((1, 2)));
        let used = sessions.predict(id(1), features.view(), output.view_mut());
        assert!(used.is_err());
        // A model that is deployed later is loaded at once.
        assert!(sessions.load(id(2), &no_model).is_err());
    }
}
