//! Parts of the link that cloud and edge share: keys, policy and model store.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use perennial_connectors::files::read_secret;
use perennial_connectors::knowledge_base::SCHEMA;
use perennial_connectors::link::{LinkError, ModelStore, schema_hash};
use perennial_connectors::schema::Schema;
use perennial_connectors::source::edges::EdgeRights;
use perennial_operators::share::{Pseudonyms, SharePolicy};

use crate::config::{EdgeConfig, LinkConfig, Settings};
use crate::error::Error;

/// Last version that a model of the cloud can have at an edge. Models that the edge trains have
/// greater ones.
pub const LAST_CLOUD_VERSION: u32 = 1 << 20;

/// Bytes of changes in a message. A change of samples has about as many; one that has more, as a
/// model may, has a message of its own.
pub(super) const MESSAGE_BYTES: usize = 1 << 20;

/// Least length of a secret, bytes: a shorter one could be guessed.
const LEAST_SECRET: usize = 16;

/// Pause before a failed step is tried again.
pub(super) const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// Limit on a single wait, so that a thread soon sees that the run is to stop.
pub(super) const POLL: Duration = Duration::from_millis(100);

/// Hash of the schema, by which cloud and edges check that they have the same one.
pub fn schema(settings: &Settings) -> String {
    let parts = settings.fingerprint();
    let schema = parts.into_iter().find(|(name, _)| name == SCHEMA);
    schema_hash(&schema.map(|(_, schema)| schema).unwrap_or_default())
}

/// The rights of the edges from which the cloud takes in changes, with their keys.
pub fn edge_rights(
    link: &LinkConfig,
    schema: &Schema,
) -> Result<BTreeMap<String, EdgeRights>, Error> {
    let rights = |(name, edge): (&String, &EdgeConfig)| Ok((name.clone(), edge.rights(schema)?));
    link.edges.iter().map(rights).collect()
}

/// The policy of what is shared, if anything is, with the secret of its pseudonyms.
pub fn policy(settings: &Settings) -> Result<Option<SharePolicy>, Error> {
    let Some(mut policy) = settings.share.clone() else {
        return Ok(None);
    };
    if let Some(path) = &settings.config().share.secret {
        let secret = read_secret(path).map_err(|error| Error::File(path.clone(), error))?;
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

/// The store of large models, if there is one.
pub fn open_store(link: &LinkConfig) -> Result<Option<ModelStore>, Error> {
    Ok(link.store.as_ref().map(ModelStore::open).transpose()?)
}

/// The path of a key; the config's check has made sure that there is one.
pub(super) fn key_file(path: &Option<std::path::PathBuf>) -> &Path {
    path.as_deref().unwrap_or(Path::new(""))
}
