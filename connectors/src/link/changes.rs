//! Changes that edges share, in the order of their commits.

use perennial_operators::{Epoch, SharedSamples, SharedStatistics, TaskDefinition};
use serde::{Deserialize, Serialize};

use super::PublishedModel;
use super::envelope::{LinkMessage, decode_whole};

/// A message of an edge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Changes {
    /// Name of the edge.
    pub edge: String,
    /// When the edge's knowledge base was created, microseconds since 1970 by its clock. A new
    /// knowledge base numbers its changes from 0.
    pub since: i64,
    /// The [`schema_hash`](super::schema_hash) of its samples.
    pub schema: String,
    /// When it was sent, microseconds since 1970 by the edge's clock.
    pub sent: i64,
    /// Number of samples that the edge has shed so far.
    pub shed: u64,
    /// Changes, each with its number. Numbers are consecutive except for shed changes.
    pub changes: Vec<(u64, Change)>,
    /// The origin of the changes; none in messages of version 1.
    pub lineage: Option<Lineage>,
}

/// Origin of the changes in a message, by which the cloud tells a state that was restored from a
/// copy, or is in use twice, and changes that never came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lineage {
    /// Random id of the opening of the edge's state in which the changes were made.
    pub incarnation: u64,
    /// Number of the first change that was made in it.
    pub first: u64,
    /// Number of the change before the ones in this message that was not shed.
    pub follows: Option<u64>,
}

/// The fields of a message of version 1, in their order.
type FirstVersion = (String, i64, String, i64, u64, Vec<(u64, Change)>);

impl LinkMessage for Changes {
    const VERSION: u16 = 2;

    fn decode(version: u16, bytes: &[u8]) -> Option<Changes> {
        if version > 1 {
            return decode_whole(bytes);
        }
        let (edge, since, schema, sent, shed, changes) = decode_whole::<FirstVersion>(bytes)?;
        Some(Changes {
            edge,
            since,
            schema,
            sent,
            shed,
            changes,
            lineage: None,
        })
    }
}

impl Changes {
    /// Whether any change has models.
    pub fn has_models(&self) -> bool {
        let mut changes = self.changes.iter();
        changes.any(|(_, change)| !change.models.is_empty())
    }

    /// Bytes of all models; of one in the object store, as many as its record says.
    pub(crate) fn model_bytes(&self) -> usize {
        let changes = self.changes.iter();
        let models = changes.flat_map(|(_, change)| &change.models);
        let bytes = models.map(|Donation { model, .. }| {
            if model.is_stored {
                usize::try_from(model.trained.bytes).unwrap_or(usize::MAX)
            } else {
                model.onnx.len()
            }
        });
        bytes.fold(0, usize::saturating_add)
    }

    /// Whether any change has a model that is in the object store.
    pub(crate) fn has_stored_models(&self) -> bool {
        let mut models = self.changes.iter().flat_map(|(_, change)| &change.models);
        models.any(|donation| donation.model.is_stored)
    }
}

/// What one commit of an edge shares, or a part of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// The last epoch of the commit.
    pub epoch: Epoch,
    /// Labelled samples, by sequence number.
    pub samples: Vec<SharedSamples>,
    /// Statistics of tasks.
    pub statistics: Vec<SharedStatistics>,
    /// Models that the edge has trained.
    pub models: Vec<Donation>,
}

/// A model that an edge has trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Donation {
    /// The path of its task, from the base task to the task itself.
    pub path: Vec<TaskDefinition>,
    /// The model.
    pub model: PublishedModel,
}

impl Donation {
    /// Whether the model is of the task and matches its record.
    pub(crate) fn is_sound(&self) -> bool {
        let task = self.path.last().map(|task| task.task);
        task.is_some_and(|task| self.model.is_of(task))
    }
}

impl Change {
    /// Number of samples.
    pub fn rows(&self) -> u64 {
        self.samples.iter().map(|part| part.len() as u64).sum()
    }

    /// Whether it has neither samples nor statistics nor models.
    pub fn is_empty(&self) -> bool {
        self.rows() == 0 && self.statistics.is_empty() && self.models.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::super::{open, seal};
    use super::*;

    /// A message as an edge of version 1 sends it.
    #[derive(Serialize)]
    struct OldMessage(FirstVersion);

    impl LinkMessage for OldMessage {
        const VERSION: u16 = 1;

        fn decode(_: u16, bytes: &[u8]) -> Option<OldMessage> {
            decode_whole(bytes).map(OldMessage)
        }
    }

    #[test]
    fn messages_of_version_1_are_read() {
        let key = SigningKey::from_bytes(&[5; 32]);
        let changes = vec![(3, Change::default())];
        let mut expected = Changes {
            edge: "north".to_string(),
            since: 1,
            schema: "schema".to_string(),
            sent: 2,
            shed: 4,
            changes: changes.clone(),
            lineage: None,
        };
        let (edge, schema) = (expected.edge.clone(), expected.schema.clone());
        let old = OldMessage((edge, 1, schema, 2, 4, changes));
        let sealed = seal(&old, &key).unwrap();
        let open = |sealed: &[u8]| open::<Changes>(sealed, &key.verifying_key(), "north").unwrap();
        assert_eq!(open(&sealed), expected);
        expected.lineage = Some(Lineage {
            incarnation: 9,
            first: 3,
            follows: Some(2),
        });
        assert_eq!(open(&seal(&expected, &key).unwrap()), expected);
    }
}
