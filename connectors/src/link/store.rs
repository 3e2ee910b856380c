//! An object store for models that are too large for messages. A message then has only the hash,
//! under which the model is stored.

use std::collections::BTreeMap;
use std::time::Duration;

use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, parse_url_opts};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::runtime::{Builder, Runtime};

use super::{LinkError, PublishedModel};
use crate::kafka::{OptionValue, option};

/// An object store for large models.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StoreConfig {
    /// A folder (`file:///srv/models`), or a bucket of S3 or a compatible store
    /// (`s3://bucket/models`).
    pub url: String,
    /// The largest model, in bytes, that is sent in a message; larger ones are stored. Models that
    /// the cloud publishes for some of the edges are stored whatever their size.
    #[serde(default = "above")]
    pub above: usize,
    /// Settings of the store, such as `aws_region`, `aws_endpoint`, `aws_access_key_id`.
    /// `file:PATH` stands for the content of the file.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, OptionValue>,
}

/// Bytes of a model that is in its message in any case: no more than the rest of the message.
const SMALL: usize = 1 << 10;

/// Timeout of a request to the store.
const PATIENCE: Duration = Duration::from_secs(60);

fn above() -> usize {
    1 << 20
}

/// A client of an object store.
pub struct ModelStore {
    store: Box<dyn ObjectStore>,
    folder: Path,
    above: usize,
    url: String,
    runtime: Runtime,
}

impl ModelStore {
    /// Opens a store. No request is sent yet.
    ///
    /// # Errors
    /// The config cannot be used.
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

    /// The path of a model. The hash is checked, since it comes over the network.
    fn path(&self, hash: &str) -> Result<Path, LinkError> {
        let is_hash = hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_hash
            .then(|| self.folder.clone().join(format!("{hash}.onnx")))
            .ok_or(LinkError::Hash)
    }

    /// Sends a request about a model and waits for the answer, at most [`PATIENCE`].
    fn request<T>(
        &self,
        hash: &str,
        request: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, LinkError> {
        let failed = |reason: String| LinkError::Store {
            url: self.url.clone(),
            reason,
        };
        // The timeout has to be created inside the runtime.
        let bounded = async { tokio::time::timeout(PATIENCE, request).await };
        self.runtime
            .block_on(bounded)
            .map_err(|_| failed(format!("no answer within {PATIENCE:?}")))?
            .map_err(|error| match error {
                object_store::Error::NotFound { .. } => LinkError::Missing {
                    url: self.url.clone(),
                    hash: hash.to_string(),
                },
                error => failed(error.to_string()),
            })
    }

    /// Moves the bytes of a large model from the message to the store.
    ///
    /// # Errors
    /// The store does not accept them now.
    pub fn store_large(&self, model: &mut PublishedModel) -> Result<(), LinkError> {
        self.store_above(model, self.above)
    }

    /// Moves the bytes of a model that few receivers want from the message to the store, so that
    /// the others do not download them.
    ///
    /// # Errors
    /// The store does not accept them now.
    pub(super) fn store_for_few(&self, model: &mut PublishedModel) -> Result<(), LinkError> {
        self.store_above(model, self.above.min(SMALL))
    }

    fn store_above(&self, model: &mut PublishedModel, above: usize) -> Result<(), LinkError> {
        if model.onnx.len() <= above {
            return Ok(());
        }
        let hash = &model.trained.hash;
        let path = self.path(hash)?;
        self.request(hash, self.store.put(&path, model.onnx.clone().into()))?;
        model.onnx.clear();
        model.is_stored = true;
        Ok(())
    }

    /// Fetches the bytes of a model, if they are in the store.
    ///
    /// # Errors
    /// The store does not return them now, or returns others.
    pub fn fetch(&self, model: &mut PublishedModel) -> Result<(), LinkError> {
        if !model.is_stored {
            return Ok(());
        }
        let hash = &model.trained.hash;
        let path = self.path(hash)?;
        let bytes = self.request(hash, async {
            let found = self.store.get(&path).await?;
            if found.meta.size != model.trained.bytes {
                // An object of any other size is not loaded into memory.
                return Ok(None);
            }
            found.bytes().await.map(Some)
        })?;
        model.onnx = bytes.ok_or(LinkError::Hash)?.to_vec();
        model.is_stored = false;
        if model.is_whole() {
            Ok(())
        } else {
            Err(LinkError::Hash)
        }
    }
}

/// Fetches the bytes of a model, if they are in the store.
///
/// # Errors
/// There is no store, or it does not return the model now.
pub(crate) fn fetch(
    store: Option<&ModelStore>,
    model: &mut PublishedModel,
) -> Result<(), LinkError> {
    match store {
        Some(store) => store.fetch(model),
        None if model.is_stored => Err(LinkError::NoStore),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use perennial_operators::flow::{ModelTrained, Remodeling};
    use perennial_operators::{ModelId, TaskId};

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
        store.store_large(&mut sent).unwrap();
        assert_eq!(sent, small);
        let mut sent = large.clone();
        store.store_large(&mut sent).unwrap();
        assert!(sent.is_stored && sent.onnx.is_empty());
        assert!(matches!(
            fetch(None, &mut sent.clone()),
            Err(LinkError::NoStore)
        ));
        let mut fetched = sent.clone();
        fetch(Some(&store), &mut fetched).unwrap();
        assert_eq!(fetched, large);
        // Other bytes under the hash are refused.
        let file = folder.path().join(format!("{}.onnx", large.trained.hash));
        std::fs::write(&file, "something else").unwrap();
        assert!(matches!(
            store.fetch(&mut sent.clone()),
            Err(LinkError::Hash)
        ));
        std::fs::remove_file(&file).unwrap();
        assert!(matches!(
            store.fetch(&mut sent.clone()),
            Err(LinkError::Missing { .. })
        ));
        // A hash that is no hash gives no path.
        sent.trained.hash = "../secret".to_string();
        assert!(matches!(store.fetch(&mut sent), Err(LinkError::Hash)));
    }

    #[test]
    fn an_unusable_address_is_refused() {
        let config = |url: &str| StoreConfig {
            url: url.to_string(),
            above: 1,
            options: BTreeMap::new(),
        };
        let refusal = |url: &str| {
            ModelStore::open(&config(url))
                .err()
                .map(|error| error.to_string())
        };
        assert!(refusal("models").unwrap().contains("models"));
        assert!(refusal("ftp://somewhere/models").is_some());
        assert_eq!(refusal("s3://bucket/models"), None);
    }
}
