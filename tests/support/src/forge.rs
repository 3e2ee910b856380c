//! Messages of an edge that no edge would send, signed with its key.

use perennial_connectors::link::{
    Change, Changes, Donation, Published, PublishedModel, now, open, seal, signing_key,
    verifying_key,
};
use perennial_operators::flow::{ModelTrained, Remodeling};
use perennial_operators::{Epoch, ModelId, SharedSamples, SharedTexts, TaskId, Texts};

use crate::fleet::Fleet;
use crate::kafka::Message;
use crate::topics::START;

/// The key of the messages about the base task.
const BASE: &str = "0000000000000000";

/// The cloud's latest message about the base task.
pub fn base_of(fleet: &Fleet) -> Published {
    let read = fleet.cloud.read(&fleet.knowledge());
    let found = read
        .iter()
        .rfind(|read| read.key.as_deref() == Some(BASE.as_bytes()));
    let key = verifying_key(&fleet.bench.path("cloud-public.pem")).expect("a key");
    open(&found.expect("a message").value, &key, "the cloud").expect("a message")
}

/// The training of a model with these bytes, from one sample.
pub fn trained(model: ModelId, onnx: &[u8]) -> ModelTrained {
    ModelTrained {
        model,
        hash: blake3::hash(onnx).to_hex().to_string(),
        bytes: onnx.len() as u64,
        samples: 1,
        latest: 0,
        remodeling: Remodeling::Scratch,
    }
}

/// A model with these bytes for the base task.
fn model(version: u32, onnx: Vec<u8>) -> PublishedModel {
    let task = TaskId::BASE;
    let model = ModelId { task, version };
    PublishedModel {
        model,
        trained: ModelTrained {
            samples: 1_000_000,
            ..trained(model, &onnx)
        },
        evaluated: None,
        onnx,
        is_stored: false,
    }
}

/// A change with a model for the base task that `base` is about.
pub fn donation(base: &Published, onnx: Vec<u8>) -> Change {
    let donation = Donation {
        path: base.path.clone(),
        model: model(1, onnx),
    };
    Change {
        models: vec![donation],
        ..Change::default()
    }
}

/// A change of `rows` samples of a site, the first of which has this sequence number.
pub fn samples(site: &str, first: u64, rows: usize) -> Change {
    let text = |text: &str| {
        Some(SharedTexts {
            values: vec![text.into()],
            codes: vec![0; rows],
        })
    };
    let sequences: Vec<u64> = (first..).take(rows).collect();
    let mut ids = Texts::default();
    sequences
        .iter()
        .for_each(|sequence| ids.push(&format!("{site} {sequence}")));
    let times = sequences.iter();
    let part = SharedSamples {
        times: times.map(|number| *number as i64 * 1_000_000).collect(),
        sequences,
        ids: Some(ids),
        attributes: vec![text(site), text("dry")],
        features: vec![Some(vec![1.0; rows]), Some(vec![0.5; rows]), None, None],
        labels: vec![1.0; rows],
    };
    Change {
        epoch: Epoch(first),
        samples: vec![part],
        ..Change::default()
    }
}

/// Sends a message to the cloud.
pub fn send(fleet: &Fleet, base: &Published, edge: &str, signer: &str, change: Change) {
    let message = message(fleet, base, edge, signer, change);
    fleet.cloud.produce(&fleet.changes(), &[message]);
}

/// A message with a change, in the name of an edge with a new state, signed with the key of
/// `signer`, for the schema of `base`.
pub fn message(
    fleet: &Fleet,
    base: &Published,
    edge: &str,
    signer: &str,
    change: Change,
) -> Message {
    let changes = Changes {
        edge: edge.to_string(),
        since: now(),
        schema: base.schema.clone(),
        sent: now(),
        lineage: None,
        shed: 0,
        changes: vec![(0, change)],
    };
    let key = signing_key(&fleet.bench.path(&format!("{signer}.pem"))).expect("a key");
    let sealed = seal(&changes, &key).expect("a message");
    (0, START, edge.to_string(), Some(sealed))
}
