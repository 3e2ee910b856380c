//! Keys of an edge that change while the cloud runs.

use perennial::config::{Settings, load};
use perennial::link::common::schema;
use perennial_connectors::link::{Change, Changes, Lineage, now, seal, signing_key};
use perennial_operators::Epoch;

use support::fleet::{Fleet, common_config};
use support::forge;
use support::topics::START;

/// A change of ten samples.
fn change(number: u64) -> Change {
    forge::samples("hall", 10 * number, 10)
}

#[test]
fn keys_change_without_a_restart() {
    let fleet = Fleet::new("rotate", &["north"]);
    fleet.make_topics();
    fleet.keys("next");
    fleet.cloud_config("live", 10_000, &common_config());
    let config = String::from_utf8(fleet.bench.read("cloud.yaml")).expect("text");
    let edges = |edges: &str| {
        let config = config.replace("{north: north-public.pem}", edges);
        fleet.bench.write("cloud.yaml", config);
    };
    let file = fleet.bench.path("cloud.yaml");
    let settings = Settings::try_from(load(&file, &[]).expect("a config")).expect("settings");
    let send_change = |number: u64, change: Change, incarnation: u64, signer: &str| {
        let changes = Changes {
            edge: "north".to_string(),
            since: 1,
            schema: schema(&settings),
            sent: now(),
            shed: 0,
            changes: vec![(number, change)],
            lineage: Some(Lineage {
                incarnation,
                first: 0,
                follows: number.checked_sub(1),
            }),
        };
        let key = signing_key(&fleet.bench.path(signer)).expect("a key");
        let sealed = seal(&changes, &key).expect("a message");
        let message = (0, START, "north".to_string(), Some(sealed));
        fleet.cloud.produce(&fleet.changes(), &[message]);
    };
    let send = |number: u64, incarnation: u64, signer: &str| {
        send_change(number, change(number), incarnation, signer);
    };
    let cloud = fleet.start("cloud");
    send(0, 7, "north.pem");
    send(1, 7, "next.pem");
    fleet.wait_for_samples("north", 10);
    fleet.wait_until("a message waits", || {
        fleet.log("cloud").contains("waits for its key")
    });
    // A message of nobody behind it is a dead letter once, although a restart reads it again.
    let stranger = (0, START, "stranger".to_string(), Some(b"hello".to_vec()));
    fleet.cloud.produce(&fleet.changes(), &[stranger]);
    let letters = || fleet.bench.dead_letters("cloud");
    fleet.wait_until("a dead letter", || letters().len() == 1);
    cloud.stop();
    let cloud = fleet.start("cloud");
    fleet.wait_until("the message waits again", || {
        fleet.log("cloud").matches("waits for its key").count() == 2
    });
    // The next key is there before the last one goes.
    edges("{north: {key: north-public.pem, keys: [{key: next-public.pem}]}}");
    cloud.hang_up();
    fleet.wait_for_samples("north", 20);
    edges("{north: {kye: next-public.pem}}");
    cloud.hang_up();
    fleet.wait_until("a wrong config is told", || {
        fleet.log("cloud").contains("link.edges stays as it was")
    });
    edges("{north: {key: next-public.pem}}");
    cloud.hang_up();
    send(2, 7, "next.pem");
    fleet.wait_for_samples("north", 30);
    send(3, 7, "north.pem");
    send(3, 7, "next.pem");
    fleet.wait_for_samples("north", 40);
    let north = &fleet.status("cloud")["edges"]["north"];
    assert_eq!(
        (&north["lost"], &north["forks"]),
        (&0.into(), &0.into()),
        "{north}"
    );
    assert_eq!(letters().len(), 1, "{:?}", letters());

    // A copy of its state numbers its changes from the first one on, with other samples.
    let mut copied = change(5);
    copied.epoch = Epoch(0);
    send_change(0, copied, 8, "next.pem");
    fleet.wait_for_samples("north", 50);
    let north = &fleet.status("cloud")["edges"]["north"];
    assert_eq!(
        (&north["lost"], &north["forks"]),
        (&0.into(), &1.into()),
        "{north}"
    );
    // The edge is told.
    fleet.wait_until("a notice", || {
        let read = fleet.cloud.read(&fleet.knowledge());
        read.iter()
            .any(|read| read.key.as_deref() == Some(b"edge/north"))
    });
    cloud.stop();
}
