//! Reading of models: their records, and the ONNX bytes of those that were trained or donated.

use std::collections::BTreeMap;

use perennial_operators::flow::ModelDonated;
use perennial_operators::{ModelId, TaskId};

use super::layout::{Family, donor_key, model_key, read_donor};
use super::records::{DonatedRecord, ModelRecord};
use super::{KnowledgeError, View};

impl View<'_> {
    /// Models of donors, by task and number of the donor's name.
    pub fn donated(&self) -> Result<BTreeMap<(TaskId, u64), DonatedRecord>, KnowledgeError> {
        self.scan(Family::Donated, &[], read_donor)
    }

    /// One model.
    pub fn model(&self, model: ModelId) -> Result<Option<ModelRecord>, KnowledgeError> {
        self.get(Family::Models, &model_key(model))
    }

    /// The ONNX bytes of a deployed model, checked against its hash.
    pub fn onnx(&self, model: ModelId) -> Result<Vec<u8>, KnowledgeError> {
        let named = format!("model {} of task {}", model.version, model.task);
        let record = self
            .model(model)?
            .ok_or_else(|| self.kb.damaged(&format!("{named} is unknown")))?;
        self.onnx_under(&record.trained.hash, &named)
    }

    /// The ONNX bytes of a donated model, checked against its hash.
    pub fn donated_onnx(&self, donated: &ModelDonated) -> Result<Vec<u8>, KnowledgeError> {
        let ModelDonated { donor, trained, .. } = donated;
        let key = donor_key(donated.task(), Some(donor));
        // It may be deployed as it is, or be of before donated models had places of their own.
        match self.bytes_of_model(&key)? {
            Some(bytes) if is_of(&bytes, &trained.hash) => Ok(bytes),
            _ => self.onnx_under(&trained.hash, &format!("a model of {donor}")),
        }
    }

    /// The ONNX bytes under a hash, checked against it; `named` names the model in errors.
    fn onnx_under(&self, hash: &str, named: &str) -> Result<Vec<u8>, KnowledgeError> {
        let bytes = self.bytes_of_model(hash.as_bytes())?.ok_or_else(|| {
            self.kb
                .damaged(&format!("the bytes of {named} are missing"))
        })?;
        if !is_of(&bytes, hash) {
            return Err(self
                .kb
                .damaged(&format!("the bytes of {named} do not match their hash")));
        }
        Ok(bytes)
    }

    fn bytes_of_model(&self, key: &[u8]) -> Result<Option<Vec<u8>>, KnowledgeError> {
        let bytes = self.snapshot.get_cf(self.kb.family(Family::Onnx)?, key);
        bytes.map_err(|error| self.kb.storage(&error))
    }
}

/// Tells whether a model with these bytes has this hash.
fn is_of(bytes: &[u8], hash: &str) -> bool {
    blake3::hash(bytes).to_hex().as_str() == hash
}
