//! An object store for models that are too large for messages: the message then has the hash alone, under which the model is stored.

use std::collections::BTreeMap;
use std::time::Duration;

use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, parse_url_opts};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::runtime::{Builder, Runtime};

use super::{LinkError, PublishedModel};
use crate::kafka::{OptionValue, option};

/// Where large models are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StoreConfig {
    /// A folder (`file:///srv/models`), or a bucket of S3 or what speaks like it (`s3://bucket/models`).
    pub url: String,
    /// Models of more bytes are there, smaller ones in messages.
    #[serde(default = "above")]
    pub above: usize,
    /// Settings of the store, such as `aws_region`, `aws_endpoint`, `aws_access_key_id`. A text `file:PATH` is read from that file.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, OptionValue>,
}

/// How long the store may take for a model.
const PATIENCE: Duration = Duration::from_secs(60);

fn above() -> usize {
    1 << 20
}

/// The store.
pub struct ModelStore {
    store: Box<dyn ObjectStore>,
    folder: Path,
    above: usize,
    url: String,
    runtime: Runtime,
}

impl ModelStore {
    /// Opens it; nothing is asked of it yet.
    ///
    /// # Errors
    /// The config is not that of a store.
    pub fn open(config: &StoreConfig) -> Result<ModelStore, LinkError> {
        let failed = |reason: String| LinkError::Store {
            url: config.url.clone(),
            reason,
        };
        let url = url::Url::parse(&config.url).map_err(|error| failed(error.to_string()))?;
        let mut options = Vec::new();
        for (key, value) in &config.options {
            let value = option(key, value).map_err(|error| failed(error.to_string()))?;
            options.push((key.to_lowercase(), value));
        }
        let (store, folder) =
            parse_url_opts(&url, options).map_err(|error| failed(error.to_string()))?;
        let runtime = Builder::new_current_thread().enable_all().build();
        Ok(ModelStore {
            store,
            folder,
            above: config.above,
            url: config.url.clone(),
            runtime: runtime.map_err(|error| failed(error.to_string()))?,
        })
    }

    /// Where a model is. Its hash may be anything that somebody has sent.
    fn place(&self, hash: &str) -> Result<Path, LinkError> {
        let is_hash = hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_hash
            .then(|| self.folder.clone().join(format!("{hash}.onnx")))
            .ok_or(LinkError::Hash)
    }

    /// Waits for the store's answer, but not for ever: there is other work.
    fn ask<T>(
        &self,
        question: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, LinkError> {
        let failed = |reason: String| LinkError::Store {
            url: self.url.clone(),
            reason,
        };
        let answer = async { tokio::time::timeout(PATIENCE, question).await };
        let answer = self.runtime.block_on(answer);
        let answer = answer.map_err(|_| failed(format!("no answer within {PATIENCE:?}")))?;
        answer.map_err(|error| failed(error.to_string()))
    }

    /// Takes the bytes of a model that is too large for a message, and stores them.
    ///
    /// # Errors
    /// The store does not take them now.
    pub fn put_aside(&self, model: &mut PublishedModel) -> Result<(), LinkError> {
        if model.onnx.len() <= self.above {
            return Ok(());
        }
        let place = self.place(&model.trained.hash)?;
        self.ask(self.store.put(&place, model.onnx.clone().into()))?;
        model.onnx.clear();
        model.is_stored = true;
        Ok(())
    }

    /// Brings the bytes of a model back, if they were put aside.
    ///
    /// # Errors
    /// The store does not give them now, or gives others.
    pub fn bring(&self, model: &mut PublishedModel) -> Result<(), LinkError> {
        if !model.is_stored {
            return Ok(());
        }
        let place = self.place(&model.trained.hash)?;
        let bytes = self.ask(async {
            let found = self.store.get(&place).await?;
            match found.meta.size == model.trained.bytes {
                true => found.bytes().await.map(Some),
                // Nobody has to hold what somebody else has put there.
                false => Ok(None),
            }
        })?;
        model.onnx = bytes.ok_or(LinkError::Hash)?.to_vec();
        model.is_stored = false;
        match model.is_whole() {
            true => Ok(()),
            false => Err(LinkError::Hash),
        }
    }
}

/// Brings a model back from the store, if it was put aside and there is a store.
///
/// # Errors
/// There is no store, or it does not give the model now.
pub(crate) fn bring(
    store: Option<&ModelStore>,
    model: &mut PublishedModel,
) -> Result<(), LinkError> {
    match store {
        Some(store) => store.bring(model),
        None if model.is_stored => Err(LinkError::NoStore),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use perennial_operators::{ModelId, ModelTrained, Remodeling, TaskId};

    use super::*;

    fn model(onnx: &[u8]) -> PublishedModel {
        let model = ModelId {
            task: TaskId(7),
            version: 1,
        };
        PublishedModel {
            model,
            trained: ModelTrained {
                model,
                hash: blake3::hash(onnx).to_hex().to_string(),
                bytes: onnx.len() as u64,
                samples: 1,
                latest: 0,
                remodeling: Remodeling::Scratch,
            },
            evaluated: None,
            onnx: onnx.to_vec(),
            is_stored: false,
        }
    }

    #[test]
    fn large_models_are_put_aside_and_come_back_whole() {
        let folder = tempfile::tempdir().unwrap();
        let config = StoreConfig {
            url: format!("file://{}", folder.path().display()),
            above: 10,
            options: BTreeMap::new(),
        };
        let store = ModelStore::open(&config).unwrap();
        let (small, large) = (model(b"small"), model(b"larger than ten bytes"));
        let mut sent = small.clone();
        store.put_aside(&mut sent).unwrap();
        assert_eq!(sent, small);
        let mut sent = large.clone();
        store.put_aside(&mut sent).unwrap();
        assert!(sent.is_stored && sent.onnx.is_empty());
        assert!(matches!(
            bring(None, &mut sent.clone()),
            Err(LinkError::NoStore)
        ));
        let mut brought = sent.clone();
        bring(Some(&store), &mut brought).unwrap();
        assert_eq!(brought, large);
        // What somebody else has put there is not taken.
        let file = folder.path().join(format!("{}.onnx", large.trained.hash));
        std::fs::write(&file, "something else").unwrap();
        assert!(matches!(
            store.bring(&mut sent.clone()),
            Err(LinkError::Hash)
        ));
        std::fs::remove_file(&file).unwrap();
        assert!(matches!(
            store.bring(&mut sent.clone()),
            Err(LinkError::Store { .. })
        ));
        // Nor does anybody look for what is no hash.
        sent.trained.hash = "../secret".to_string();
        assert!(matches!(store.bring(&mut sent), Err(LinkError::Hash)));
    }

    #[test]
    fn what_is_no_store_is_told() {
        let config = |url: &str| StoreConfig {
            url: url.to_string(),
            above: 1,
            options: BTreeMap::new(),
        };
        let said = |url: &str| {
            ModelStore::open(&config(url))
                .err()
                .map(|error| error.to_string())
        };
        assert!(said("models").unwrap().contains("models"));
        assert!(said("ftp://somewhere/models").is_some());
        assert_eq!(said("s3://bucket/models"), None);
    }
}
