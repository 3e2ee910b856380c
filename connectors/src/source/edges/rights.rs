//! Rights of edges: whose signature counts, until when, and what each edge may share.

use std::collections::{BTreeMap, BTreeSet};

use ed25519_dalek::VerifyingKey;
use perennial_operators::{SharedSamples, TaskDefinition, TaskId};

use crate::link::{Changes, LinkError, open_by, unverified};

/// The edges whose changes are accepted.
#[derive(Clone, Debug)]
pub struct KnownEdges {
    /// The rights of each edge, by name.
    pub edges: BTreeMap<String, EdgeRights>,
    /// The expected [`schema_hash`](crate::link::schema_hash) of changes.
    pub schema: String,
    /// Whether to wait for every edge, so that the same changes give the same stream in whatever
    /// order they arrive.
    pub in_order: bool,
}

/// Default of [`EdgeRights::most_models`].
pub const MOST_MODELS: usize = 1000;
/// Default of [`EdgeRights::most_model_bytes`].
pub const MOST_MODEL_BYTES: u64 = 1 << 30;

/// What an edge may share, and the keys that it signs with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EdgeRights {
    /// Its keys.
    pub keys: Vec<EdgeKey>,
    /// Whether it may share samples.
    pub samples: bool,
    /// Whether it may share models.
    pub models: bool,
    /// Of how many tasks it may share models.
    pub most_models: usize,
    /// Bytes that these may have together.
    pub most_model_bytes: u64,
    /// The attributes of which it may share only some values.
    pub sites: Vec<AllowedValues>,
}

/// A key of an edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EdgeKey {
    /// The public key.
    pub key: VerifyingKey,
    /// When its last message may have been sent, microseconds since 1970 by the edge's clock.
    pub until: Option<i64>,
}

/// The values of an attribute that an edge may share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedValues {
    /// Column of the attribute.
    pub column: usize,
    /// Name of the attribute.
    pub name: String,
    /// The values.
    pub values: BTreeSet<String>,
}

/// Changes whose signature was checked.
#[derive(Debug)]
pub struct SignedChanges {
    /// The changes.
    pub changes: Changes,
    /// Parts that were refused and removed: number of the change, and why.
    pub refused: Vec<(u64, LinkError)>,
    /// The key that has signed them.
    pub signer: VerifyingKey,
}

impl KnownEdges {
    /// The changes in a message with the key `key`.
    ///
    /// # Errors
    /// The message cannot be trusted or understood.
    pub(super) fn open(
        &self,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<SignedChanges, LinkError> {
        let edge = String::from_utf8_lossy(key);
        let Some(rights) = self.edges.get(&*edge) else {
            return Err(LinkError::UnknownEdge(edge.into_owned()));
        };
        let value = value.ok_or(LinkError::Torn)?;
        let keys = rights.keys.iter().map(|known| &known.key);
        let (changes, signer) = open_by::<Changes>(value, keys, &format!("edge \"{edge}\""))?;
        if changes.edge != edge {
            return Err(LinkError::Edge {
                key: edge.into_owned(),
                found: changes.edge,
            });
        }
        if changes.schema != self.schema {
            return Err(LinkError::Schema);
        }
        if !rights.accept(signer, changes.sent) {
            return Err(LinkError::Expired(format!("edge \"{edge}\"")));
        }
        Ok(SignedChanges {
            signer: *signer,
            changes,
            refused: Vec::new(),
        })
    }

    /// Whether a refused message may be good under a key that the edge is still to get here: it is
    /// complete and says that it is of this edge.
    pub(super) fn may_be_good(&self, refused: &LinkError, key: &[u8], value: &[u8]) -> bool {
        match refused {
            LinkError::Expired(_) => true,
            LinkError::Signature(_) => {
                let read = unverified::<Changes>(value);
                read.is_some_and(|changes| changes.edge.as_bytes() == key)
            }
            _ => false,
        }
    }
}

impl EdgeRights {
    /// The rights of an edge with one key that may share everything.
    pub fn all(key: VerifyingKey) -> EdgeRights {
        EdgeRights::with(vec![EdgeKey { key, until: None }])
    }

    /// The rights of an edge with these keys that may share everything.
    pub fn with(keys: Vec<EdgeKey>) -> EdgeRights {
        EdgeRights {
            keys,
            samples: true,
            models: true,
            most_models: MOST_MODELS,
            most_model_bytes: MOST_MODEL_BYTES,
            sites: Vec::new(),
        }
    }

    /// The rights of an edge that is not known.
    pub(super) fn none() -> EdgeRights {
        EdgeRights {
            keys: Vec::new(),
            samples: false,
            models: false,
            most_models: 0,
            most_model_bytes: 0,
            sites: Vec::new(),
        }
    }

    /// Whether a message that was signed with a key and sent at this time counts.
    pub(super) fn accept(&self, signer: &VerifyingKey, sent: i64) -> bool {
        let mut keys = self.keys.iter();
        keys.any(|known| known.key == *signer && known.until.is_none_or(|until| sent <= until))
    }

    /// What the edge may not share of a sample, if anything.
    pub(super) fn forbid_sample(&self, samples: &SharedSamples, row: usize) -> Option<String> {
        if !self.samples {
            return Some("samples".to_string());
        }
        self.sites.iter().find_map(|allowed| {
            // Without a value the sample is of no site.
            let texts = samples.attributes.get(allowed.column)?.as_ref()?;
            allowed.forbid(texts.get(row))
        })
    }

    /// What the edge may not share of a model, if anything.
    pub(super) fn forbid_model(&self, path: &[TaskDefinition]) -> Option<String> {
        if !self.models {
            return Some("models".to_string());
        }
        path.iter().find_map(|task| self.forbid_task(task))
    }

    /// What the edge may not share of a task, if anything. The task's name tells its values; the
    /// name must be the one that gives the task's number.
    pub(super) fn forbid_task(&self, task: &TaskDefinition) -> Option<String> {
        if self.sites.is_empty() || task.task == TaskId::BASE {
            return None;
        }
        let mut number = TaskId::BASE;
        for level in task.name.split(" > ") {
            let pairs = level.split(", ").map(|pair| pair.split_once('='));
            let values: Option<Vec<(String, String)>> = pairs
                .map(|pair| pair.map(|(name, value)| (name.to_string(), value.to_string())))
                .collect();
            let Some(values) = values else { break };
            for (name, value) in &values {
                let mut sites = self.sites.iter().filter(|allowed| allowed.name == *name);
                if let Some(forbidden) = sites.find_map(|allowed| allowed.forbid(value)) {
                    return Some(forbidden);
                }
            }
            number = number.child(&values);
        }
        (number != task.task).then(|| format!("a task with another number than \"{}\"", task.name))
    }
}

impl AllowedValues {
    /// Names a value that is not allowed.
    fn forbid(&self, value: &str) -> Option<String> {
        let is_allowed = value.is_empty() || self.values.contains(value);
        (!is_allowed).then(|| format!("what is of {} \"{value}\"", self.name))
    }
}
