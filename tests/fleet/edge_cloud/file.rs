//! An edge whose stream is a file: its changes arrive, though the link was cut until after its end.

use std::collections::BTreeSet;
use std::fmt::Write;

use perennial_connectors::link::{Change, Changes, open, verifying_key};
use perennial_operators::flow::Remodeling;

use support::fleet::Fleet;
use support::{ended, lines, stream};

const SAMPLES: usize = 2400;

/// The changes that have arrived in the cloud's broker.
fn arrived(fleet: &Fleet) -> Vec<Change> {
    let key = verifying_key(&fleet.bench.path("alone-public.pem")).expect("a key");
    let read = fleet.cloud.read(&fleet.changes()).into_iter();
    let opened = read.map(|read| open(&read.value, &key, "alone").expect("a message"));
    opened
        .flat_map(|changes: Changes| changes.changes)
        .map(|(_, change)| change)
        .collect()
}

/// Makes a fleet with an edge that reads a file and trains; returns the edge's config without its
/// policy.
fn alone(name: &str) -> (Fleet, String) {
    let fleet = Fleet::with_own_link(name, &["alone"]);
    fleet.make_topics();
    // All from before the concept changes.
    let samples = &stream::samples(61, 2 * SAMPLES, 0.0)[..SAMPLES];
    fleet.bench.write("stream.csv", stream::csv(samples));
    let mut config = stream::config("stream.csv", "records: 10");
    config = config.replace("report:\n  baselines: [frozen]\n", "");
    let (port, changes, knowledge) = (fleet.proxy.port, fleet.changes(), fleet.knowledge());
    let _ = write!(
        config,
        "mode: live
role: edge
link: {{kafka: {{brokers: '127.0.0.1:{port}'}}, changes: {changes}, knowledge: {knowledge}, train: true,
  verify: cloud-public.pem, sign: alone.pem}}
"
    );
    (fleet, config.replace("name: stream", "name: alone"))
}

fn run(fleet: &Fleet) {
    ended(fleet.command("alone", &[]).output()).success();
}

/// Kills the edge after some commits; returns the number of samples read by then.
fn run_and_kill(fleet: &Fleet) -> u64 {
    let mut killed = fleet.command("alone", &[]);
    killed.env("PERENNIAL_KILL_AT", "commit: after knowledge#4");
    assert!(!killed.output().expect("it starts").status.success());
    let samples = fleet.status("alone")["commit"]["samples"].as_u64();
    samples.expect("a number")
}

/// A config without its policy.
fn silent(config: &str) -> String {
    config.replace(", sign: alone.pem", "")
}

#[test]
fn finished_edge_sends_its_outbox() {
    let (fleet, mut config) = alone("file");
    config.push_str(
        "share: {samples: redacted, pseudonyms: [id, site], secret: secret, models: true}\n",
    );
    fleet.bench.write("alone.yaml", config);
    fleet.proxy.cut();
    run(&fleet);
    let outbox = fleet.status("alone")["outbox"].clone();
    assert_eq!(outbox["samples"], SAMPLES, "{outbox}");
    assert_eq!(outbox["sent"], 0, "{outbox}");
    assert_eq!(arrived(&fleet), []);

    fleet.proxy.heal();
    run(&fleet);
    let outbox = fleet.status("alone")["outbox"].clone();
    assert_eq!(
        (&outbox["waiting"], &outbox["shed"]),
        (&0.into(), &0.into())
    );
    let changes = arrived(&fleet);
    let rows: u64 = changes.iter().map(Change::rows).sum();
    assert_eq!(rows, SAMPLES as u64);

    // Models are shared under pseudonyms only.
    let models = fleet.bench.kb_json("alone", &["models"]);
    let models = models.as_array().expect("models").iter();
    let of_sites = models.filter(|it| it["task"].as_str().is_some_and(|it| it.contains("site=")));
    let numbers = of_sites.map(|it| it["trained"]["model"]["task"].as_u64().expect("a number"));
    let numbers: BTreeSet<u64> = numbers.collect();
    let donated = changes.iter().flat_map(|change| &change.models);
    let mut told = BTreeSet::new();
    for donation in donated {
        told.extend(donation.path.iter().map(|task| task.task.0));
        let model = &donation.model;
        told.insert(model.trained.model.task.0);
        match model.trained.remodeling {
            Remodeling::WarmStart { from } => told.insert(from.task.0),
            Remodeling::Pooled { with } => told.insert(with.0),
            Remodeling::Adopted { model } => told.insert(model.task.0),
            _ => false,
        };
        let evaluated = model.evaluated.as_ref();
        told.extend(evaluated.and_then(|it| Some(it.incumbent?.task.0)));
    }
    assert!(told.len() > 3 && numbers.len() > 3, "{told:?} {numbers:?}");
    assert!(told.is_disjoint(&numbers), "{told:?} {numbers:?}");
    fleet.assert_sound("alone");
}

#[test]
fn samples_from_before_sharing_stay() {
    let (fleet, config) = alone("before");
    fleet.bench.write("alone.yaml", silent(&config));
    let before = run_and_kill(&fleet);
    // Labels of pending samples come while labelled samples are shared.
    let share = format!("{config}share: {{samples: raw}}\n");
    fleet.bench.write("alone.yaml", share);
    run(&fleet);
    let changes = arrived(&fleet);
    let parts = changes.iter().flat_map(|change| &change.samples);
    let shared: BTreeSet<u64> = parts.flat_map(|part| part.sequences.clone()).collect();
    let all: BTreeSet<u64> = (before..SAMPLES as u64).collect();
    assert_eq!(shared, all);
    fleet.assert_sound("alone");
}

#[test]
fn outbox_stays_once_nothing_is_shared() {
    let (fleet, config) = alone("after");
    let share = format!("{config}share: {{samples: raw}}\n");
    fleet.bench.write("alone.yaml", share);
    fleet.proxy.cut();
    run_and_kill(&fleet);
    let waiting = fleet.status("alone")["outbox"]["samples"].clone();
    assert!(waiting.as_u64() > Some(0), "{waiting}");
    fleet.proxy.heal();
    fleet.bench.write("alone.yaml", silent(&config));
    run(&fleet);
    let audit = fleet.bench.run(&["audit", "--state", "alone", "--json"]);
    let lines = lines(audit.success().stdout.as_bytes());
    let shed = lines.iter().filter(|line| line["shed"] == "policy");
    let shed: u64 = shed.filter_map(|line| line["samples"].as_u64()).sum();
    assert_eq!(shed, waiting);
    assert_eq!(arrived(&fleet), []);
    fleet.assert_sound("alone");
}
