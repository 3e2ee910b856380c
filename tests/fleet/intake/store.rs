//! Models that the object store lacks.

use perennial_connectors::link::{Change, Donation, ModelStore, PublishedModel, StoreConfig};
use perennial_operators::flow::{ModelTrained, Remodeling};
use perennial_operators::{Epoch, ModelId, TaskDefinition, TaskId};

use support::forge::samples;

use super::Intake;

/// A change with a model that is said to be in the store.
fn stored_model(number: u8) -> Change {
    let model = ModelId {
        task: TaskId::BASE,
        version: u32::from(number),
    };
    let trained = ModelTrained {
        model,
        hash: blake3::hash(&[number]).to_hex().to_string(),
        bytes: 1,
        samples: 1,
        latest: 0,
        remodeling: Remodeling::Scratch,
    };
    Change {
        epoch: Epoch(0),
        models: vec![Donation {
            path: vec![TaskDefinition::base()],
            model: PublishedModel {
                model,
                trained,
                evaluated: None,
                onnx: Vec::new(),
                is_stored: true,
            },
        }],
        ..Change::default()
    }
}

#[test]
fn missing_models_hold_up_their_edge_alone() {
    let mut intake = Intake::new("intake-store");
    let folder = tempfile::tempdir().expect("a folder");
    let store = StoreConfig {
        url: format!("file://{}", folder.path().display()),
        above: 10,
        options: Default::default(),
    };
    let store = ModelStore::open(&store).expect("a store");
    intake.open(&["poor", "rich"], Some(store));
    // The store of this edge is another one than the cloud's.
    let missing = intake.message("poor", 0, vec![stored_model(1), stored_model(2)]);
    intake.send(&missing, "poor");
    let behind = intake.message("poor", 2, vec![samples("attic", 0, 20)]);
    intake.send(&behind, "poor");
    let other = intake.message("rich", 0, vec![samples("hall", 0, 30)]);
    intake.send(&other, "rich");
    intake.read_until("the other edge's samples", |intake| {
        intake.samples("hall") == 30
    });
    assert_eq!(intake.samples("attic"), 0);
    // A model that is in the store of nobody is given up.
    intake.read_until("samples behind the models", |intake| {
        intake.samples("attic") == 20
    });
    let letters = &intake.dead_letters;
    assert_eq!(letters.len(), 2, "{letters:?}");
    for letter in letters {
        assert!(letter.reason.contains("has no model"), "{letter:?}");
    }
}
