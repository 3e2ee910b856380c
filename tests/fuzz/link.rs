//! Messages of the link, rightly signed around damaged content.

use std::collections::BTreeMap;

use ed25519_dalek::{Signer, SigningKey};
use perennial_connectors::link::{
    Change, Changes, Donation, Published, PublishedModel, Subscription, now,
};
use perennial_connectors::source::edges::{EdgeMerge, EdgeRights, EdgesResume, KnownEdges};
use perennial_operators::flow::{ModelTrained, Remodeling, Revision};
use perennial_operators::{
    Epoch, ModelId, Score, SharedSamples, SharedStatistics, SharedTexts, TaskDefinition, Texts,
};
use serde::Serialize;

use crate::files::schema;
use crate::harness::Subject;
use crate::mutate;

fn key() -> SigningKey {
    SigningKey::from_bytes(&[9; 32])
}

/// An envelope around a message that is compressed already.
fn sealed(body: &[u8]) -> Vec<u8> {
    let signed = [&b"PRNL"[..], &1_u16.to_le_bytes(), body].concat();
    let signature = key().sign(&signed).to_bytes();
    [&signed[..6], &signature, body].concat()
}

fn compressed(message: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(message, zstd::DEFAULT_COMPRESSION_LEVEL).expect("bytes")
}

/// The message in an input: its bytes, if the first byte is 0, or else its compressed bytes.
fn envelope(input: &[u8]) -> Vec<u8> {
    match input {
        [0, message @ ..] => sealed(&compressed(message)),
        [_, body @ ..] => sealed(body),
        [] => sealed(&[]),
    }
}

/// Inputs with these messages.
fn seeds<T: Serialize>(messages: &[T]) -> Vec<Vec<u8>> {
    let plain = messages
        .iter()
        .map(|message| postcard::to_stdvec(message).expect("bytes"));
    plain
        .flat_map(|bytes| {
            let packed = compressed(&bytes);
            [[&[0], &bytes[..]].concat(), [&[1], &packed[..]].concat()]
        })
        .collect()
}

fn path() -> Vec<TaskDefinition> {
    let base = TaskDefinition::base();
    let season = base.child(&[("season".into(), "dry".into())]);
    let site = season.child(&[("site".into(), "s1".into())]);
    vec![base, season, site]
}

fn model() -> PublishedModel {
    let onnx = b"a model".to_vec();
    let task = path().last().expect("a task").task;
    let model = ModelId { task, version: 3 };
    PublishedModel {
        model,
        trained: ModelTrained {
            model,
            hash: blake3::hash(&onnx).to_hex().to_string(),
            bytes: onnx.len() as u64,
            samples: 100,
            latest: 7,
            remodeling: Remodeling::Scratch,
        },
        evaluated: None,
        onnx,
        is_stored: false,
    }
}

fn shared() -> SharedSamples {
    let mut ids = Texts::default();
    ids.push("r1");
    ids.push("r2é");
    let texts = |values: [&str; 2]| {
        Some(SharedTexts {
            values: values.map(Into::into).to_vec(),
            codes: vec![1, u32::MAX],
        })
    };
    SharedSamples {
        sequences: vec![3, 9],
        times: vec![1_700_000_000_000_000, 1_700_000_060_000_000],
        ids: Some(ids),
        attributes: vec![texts(["s1", "s2"]), texts(["dry", "wet"])],
        features: vec![
            Some(vec![1.5, f32::NAN]),
            None,
            Some(vec![0.0, -1.0]),
            Some(vec![1.0, 0.0]),
        ],
        labels: vec![2.0, 0.0],
    }
}

fn changes_of(edge: &str) -> Changes {
    let statistics = SharedStatistics {
        task: path().remove(1),
        labelled: 12,
        score: Score::default(),
    };
    let donation = Donation {
        path: path(),
        model: model(),
    };
    let change = |samples, statistics, models| Change {
        epoch: Epoch(4),
        samples,
        statistics,
        models,
    };
    Changes {
        edge: edge.into(),
        since: 5,
        schema: "fingerprint".into(),
        sent: now(),
        lineage: None,
        shed: 0,
        changes: vec![
            (
                0,
                change(vec![shared(), shared()], vec![statistics], vec![]),
            ),
            (1, change(vec![], vec![], vec![donation])),
            (
                4,
                change(
                    vec![SharedSamples {
                        ids: None,
                        ..shared()
                    }],
                    vec![],
                    vec![],
                ),
            ),
        ],
    }
}

/// Changes of an edge, as the cloud takes them in.
pub fn changes() -> Subject {
    let known = KnownEdges {
        edges: [("e".to_owned(), EdgeRights::all(key().verifying_key()))].into(),
        schema: "fingerprint".into(),
        in_order: true,
    };
    let schema = schema();
    Subject {
        seeds: seeds(&[
            changes_of("e"),
            Changes {
                changes: vec![],
                ..changes_of("e")
            },
        ]),
        tokens: mutate::TEXT.to_vec(),
        decode: Box::new(move |input| {
            let mut merge = EdgeMerge::new(known.clone(), &schema, 100, &EdgesResume::default());
            let value = envelope(input);
            let mut is_taken = false;
            for offset in 0..2 {
                let Ok(changes) = merge.open(b"e", Some(&value)) else {
                    return false;
                };
                if merge.push(changes, value.len(), 0, offset).is_ok() {
                    is_taken = true;
                    while merge.take_sample().is_some() {}
                }
                merge.take();
                merge.close();
            }
            is_taken
        }),
    }
}

/// A task of the cloud, as an edge takes it in.
pub fn published() -> Subject {
    let published = |model: Option<PublishedModel>| Published {
        schema: "fingerprint".into(),
        revision: Revision {
            since: 1,
            number: 2,
        },
        sent: now(),
        path: path(),
        donor: None,
        audience: vec!["e".into()],
        deviations: Some(vec![1.0, 0.5, f32::NAN]),
        model,
    };
    let subscription = Subscription {
        topic: String::new(),
        key: key().verifying_key(),
        schema: "fingerprint".into(),
        subscribed: vec!["season=dry > site=s1".into()],
        edge: "e".into(),
        takes_donations: true,
        known: BTreeMap::new(),
    };
    let key = published(None).key();
    Subject {
        seeds: seeds(&[published(None), published(Some(model()))]),
        tokens: mutate::TEXT.to_vec(),
        decode: Box::new(move |input| {
            let mut subscription = subscription.clone();
            let checked = subscription.check(key.as_bytes(), &envelope(input), i64::MIN, now());
            checked.is_ok()
        }),
    }
}
