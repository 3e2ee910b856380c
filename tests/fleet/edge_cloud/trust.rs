//! Which messages are trusted, in both directions.

use perennial_connectors::link::{Changes, Published, open, seal, signing_key, verifying_key};

use support::fleet::{Fleet, common_config};
use support::kafka::Read;
use support::onnx;
use support::stream;
use support::topics::START;

use super::split;

const BOOTSTRAP: usize = 700;
const DAY: i64 = 24 * 3600 * 1_000_000;
const BASE: &str = "0000000000000000";

/// The message under a key.
fn message(read: &[Read], key: &str) -> Vec<u8> {
    let found = read
        .iter()
        .rfind(|read| read.key.as_deref() == Some(key.as_bytes()));
    found.expect("a message").value.clone()
}

#[test]
fn untrusted_messages_are_refused() {
    let fleet = Fleet::new("trust", &["dry", "wet"]);
    fleet.make_topics();
    fleet.keys("stranger");
    // All from before the concept changes.
    let samples = &stream::samples(52, 4400, 0.0)[..2200];
    let common = common_config();
    let cloud = format!("{common}triggers: {{when: ['new_samples >= 400']}}\n");
    fleet.cloud_config("live", BOOTSTRAP, &cloud);
    let (dry, wet) = split(&samples[..BOOTSTRAP]);
    fleet.edge_config("dry", dry.len(), "samples: raw", &common);
    fleet.edge_config("wet", wet.len(), "samples: raw", &common);
    fleet.set("dry", "subscribe: [season=dry]");
    fleet.produce("dry", &dry);
    fleet.produce("wet", &wet);
    let cloud = fleet.start("cloud");
    let edges = [fleet.start("dry"), fleet.start("wet")];
    fleet.wait_for_knowledge("wet");
    // An edge takes the tasks that it subscribes to, and their ancestors.
    let mut served = fleet.models("cloud");
    served.retain(|task, _| task == "base" || task.starts_with("season=dry"));
    fleet.wait_until("dry has what it serves", || fleet.models("dry") == served);
    assert!(served.len() > 1 && served.len() < fleet.models("cloud").len());

    // Messages down in the cloud's name.
    let down = fleet.cloud.read(&fleet.knowledge());
    let genuine = message(&down, BASE);
    let cloud_key = verifying_key(&fleet.bench.path("cloud-public.pem")).expect("a key");
    let published: Published = open(&genuine, &cloud_key, "the cloud").expect("a message");
    let sign = |name: &str| signing_key(&fleet.bench.path(name)).expect("a key");
    let sealed = |change: &dyn Fn(&mut Published), key: &str| {
        let mut changed = published.clone();
        changed.revision.number += 1;
        change(&mut changed);
        seal(&changed, &sign(key)).expect("a message")
    };
    let mut tampered = genuine.clone();
    let end = tampered.len() - 100;
    tampered[end] ^= 1;
    let mut newer = genuine.clone();
    newer[4] = 9;
    let model_of = |published: &mut Published| {
        published.model.as_mut().expect("a model").onnx[1000] ^= 1;
    };
    let unknown = |published: &mut Published| {
        let model = published.model.as_mut().expect("a model");
        model.onnx = onnx::unknown_operator(4, 3);
        model.trained.hash = blake3::hash(&model.onnx).to_hex().to_string();
    };
    let down = [
        (BASE, tampered, "its signature is not that of the cloud"),
        (
            BASE,
            sealed(&|_| (), "stranger.pem"),
            "its signature is not that of the cloud",
        ),
        (BASE, newer, "version 9 of the protocol"),
        (BASE, genuine[..50].to_vec(), "truncated"),
        (
            "0000000000000001",
            genuine.clone(),
            "its key is not that of the task",
        ),
        (
            BASE,
            sealed(&model_of, "cloud.pem"),
            "does not match its hash",
        ),
        (BASE, sealed(&unknown, "cloud.pem"), "OperatorOfTheFuture"),
        (
            BASE,
            sealed(&|it| it.schema.clear(), "cloud.pem"),
            "another schema",
        ),
        (
            BASE,
            sealed(&|it| it.revision.number = 0, "cloud.pem"),
            "it is older than what is known",
        ),
        (
            BASE,
            sealed(&|it| it.sent += DAY, "cloud.pem"),
            "24.0 hours from now",
        ),
        (
            BASE,
            sealed(&|it| it.sent -= DAY, "cloud.pem"),
            "24.0 hours before what came before it",
        ),
    ];
    let models = fleet.models("wet");
    let send = |topic: &str, key: &str, value: &[u8]| {
        let message = (0, START, key.to_string(), Some(value.to_vec()));
        fleet.cloud.produce(topic, &[message]);
    };
    for (key, value, reason) in &down {
        send(&fleet.knowledge(), key, value);
        fleet.wait_until(reason, || fleet.log("wet").contains(reason));
    }
    assert_eq!(fleet.models("wet"), models);

    // Messages up in an edge's name.
    let up = fleet.cloud.read(&fleet.changes());
    let genuine = message(&up, "dry");
    let key = verifying_key(&fleet.bench.path("dry-public.pem")).expect("a key");
    let changes: Changes = open(&genuine, &key, "dry").expect("a message");
    let sealed = |change: &dyn Fn(&mut Changes), key: &str| {
        let mut changed = changes.clone();
        changed
            .changes
            .iter_mut()
            .for_each(|(number, _)| *number += 1000);
        change(&mut changed);
        seal(&changed, &sign(key)).expect("a message")
    };
    let uneven = |it: &mut Changes| {
        it.changes[0].1.samples[0].labels.pop();
    };
    let up = [
        (
            "wet",
            sealed(&|_| (), "dry.pem"),
            "its signature is not that of edge \"wet\"",
        ),
        (
            "dry",
            sealed(&|it| it.edge = "wet".into(), "dry.pem"),
            "it is of edge \"wet\"",
        ),
        ("east", genuine.clone(), "edge \"east\" is not known"),
        (
            "dry",
            genuine[..90].to_vec(),
            "its signature is not that of edge \"dry\"",
        ),
        ("dry", sealed(&uneven, "dry.pem"), "truncated"),
        (
            "dry",
            sealed(&|it| it.schema.clear(), "dry.pem"),
            "another schema",
        ),
        (
            "dry",
            sealed(&|it| it.since -= 1, "dry.pem"),
            "it is older than what is known",
        ),
    ];
    let samples_before = fleet.status("cloud")["commit"]["samples"].clone();
    // A repeated message is ignored, not refused; an edge's clock is no reason either.
    let ahead = Changes {
        sent: changes.sent + DAY,
        ..changes.clone()
    };
    let ahead = seal(&ahead, &sign("dry.pem")).expect("a message");
    for known in [&genuine, &ahead] {
        send(&fleet.changes(), "dry", known);
    }
    for (key, value, _) in &up {
        send(&fleet.changes(), key, value);
    }
    fleet.wait_until("the cloud has looked at all", || {
        fleet.bench.dead_letters("cloud").len() >= up.len()
    });
    let letters = fleet.bench.dead_letters("cloud");
    assert_eq!(letters.len(), up.len(), "{letters:#?}");
    for ((.., reason), letter) in up.iter().zip(&letters) {
        let said = letter["reason"].as_str().expect("a reason");
        assert!(said.contains(reason), "{reason}: {letter}");
    }
    assert_eq!(fleet.status("cloud")["commit"]["samples"], samples_before);

    // All go on.
    let (more_dry, more_wet) = split(&samples[BOOTSTRAP..]);
    fleet.produce("dry", &more_dry);
    fleet.produce("wet", &more_wet);
    fleet.wait_for_samples("dry", dry.len() + more_dry.len());
    fleet.wait_for_samples("wet", wet.len() + more_wet.len());
    fleet.wait_for_knowledge("wet");
    for edge in edges {
        edge.stop();
    }
    cloud.stop();
    fleet.assert_answered("dry", more_dry.len());
    for state in ["cloud", "dry", "wet"] {
        fleet.assert_sound(state);
    }
}
