//! What both ends of the link share: keys, policy, store and retries.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use perennial_connectors::knowledge_base::SCHEMA;
use perennial_connectors::link::{LinkError, ModelStore, VerifyingKey, schema_hash, verifying_key};
use perennial_operators::share::{Pseudonyms, SharePolicy};

use crate::config::{LinkConfig, Settings};
use crate::error::Error;

/// At an edge that trains models of its own, theirs are the versions after this one, and those before the cloud's.
pub const OTHERS: u32 = 1 << 20;

/// By what name a donation of the cloud's goes, at an edge that has a model of its own.
pub const CLOUD: &str = "the cloud";

/// Samples are shared in changes of about so many bytes, and a message has as many bytes of changes, or one change.
pub(super) const CHANGE: usize = 1 << 20;

/// The fewest bytes of a secret: others could be tried out.
const LEAST_SECRET: usize = 16;

/// How long to wait before what failed is tried again, and for what may come.
pub(super) const PAUSE: Duration = Duration::from_millis(500);
pub(super) const GLANCE: Duration = Duration::from_millis(100);

/// How long a run with nothing else to do waits for something to arrive.
pub(super) const LAST: Duration = Duration::from_secs(60);

/// By what cloud and edges tell that they have the same schema.
pub fn schema(settings: &Settings) -> String {
    let parts = settings.fingerprint();
    let schema = parts.into_iter().find(|(name, _)| name == SCHEMA);
    schema_hash(&schema.map(|(_, schema)| schema).unwrap_or_default())
}

/// The keys by which the cloud knows its edges.
pub fn edge_keys(link: &LinkConfig) -> Result<BTreeMap<String, VerifyingKey>, Error> {
    let key = |(edge, path): (&String, &std::path::PathBuf)| {
        let key = verifying_key(path)?;
        Ok((edge.clone(), key))
    };
    link.edges.iter().map(key).collect()
}

/// What is shared, if anything is, with the secret that pseudonyms are made with.
pub fn policy(settings: &Settings) -> Result<Option<SharePolicy>, Error> {
    let Some(mut policy) = settings.share.clone() else {
        return Ok(None);
    };
    if let Some(path) = &settings.config().share.secret {
        let secret = std::fs::read(path).map_err(|error| Error::File(path.clone(), error))?;
        if secret.len() < LEAST_SECRET {
            let reason =
                format!("expected {LEAST_SECRET} bytes or more (openssl rand -out FILE 32)");
            let path = path.display().to_string();
            return Err(LinkError::KeyFile { path, reason }.into());
        }
        policy.pseudonyms = Some(Pseudonyms::new(&secret));
    }
    Ok(Some(policy))
}

/// Where large models are, if anywhere.
pub fn open_store(link: &LinkConfig) -> Result<Option<ModelStore>, Error> {
    Ok(link.store.as_ref().map(ModelStore::open).transpose()?)
}

/// The file of a key that the config's check has found there.
pub(super) fn key_file(path: &Option<std::path::PathBuf>) -> &Path {
    path.as_deref().unwrap_or(Path::new(""))
}

/// Tells why something is tried again, once for each reason.
#[derive(Default)]
pub(super) struct RetryLog(String);

impl RetryLog {
    pub(super) fn tell(&mut self, error: &Error) {
        let reason = error.to_string();
        if self.0 != reason {
            tracing::warn!("the cloud is not reached, and is tried again: {reason}");
            self.0 = reason;
        }
    }

    pub(super) fn is_known(&self) -> bool {
        !self.0.is_empty()
    }
}
