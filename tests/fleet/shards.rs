//! Many pipelines, one cloud: processes share the partitions of one topic, and a cloud learns from
//! all of them.

use std::collections::BTreeSet;

use serde_json::Value;
use support::fleet::{Fleet, common_config};
use support::json;
use support::kafka::{Broker, PARTITIONS};
use support::stream::{self, CLASSES, Sample};
use support::topics::START;

/// Each process and its partitions.
const SHARDS: [(&str, &str); 3] = [("one", "0"), ("two", "1"), ("three", "2-3")];

/// Number of samples with which each process begins.
const BOOTSTRAP: usize = 150;

/// The partition of a sample: all of a site are in one.
fn partition(sample: &Sample) -> i32 {
    sample.site[1..].parse::<i32>().expect("a number") % PARTITIONS
}

/// The process of a sample.
fn shard(sample: &Sample) -> &'static str {
    ["one", "two", "three", "three"][partition(sample) as usize]
}

/// Sends samples and their labels, of which `sent` went before.
fn send(broker: &Broker, samples: &[Sample], sent: usize) {
    let message = |at: usize, late: i64, sample: &Sample, value: String| {
        let time = START + 2 * (sent + at) as i64 + late;
        let value = value.into_bytes();
        (partition(sample), time, sample.site.clone(), Some(value))
    };
    let (mut bare, mut labels) = (Vec::new(), Vec::new());
    for (at, sample) in samples.iter().enumerate() {
        let class = CLASSES[sample.label.expect("a label")];
        let label = serde_json::json!({"id": sample.id, "label": class});
        labels.push(message(at, 1, sample, label.to_string()));
        let unlabelled = Sample {
            label: None,
            ..sample.clone()
        };
        bare.push(message(at, 0, sample, unlabelled.json()));
    }
    broker.produce("shards-labels", &labels);
    broker.produce("shards-samples", &bare);
}

#[test]
fn processes_of_one_topic_learn_together() {
    let names = SHARDS.map(|(name, _)| name);
    let fleet = Fleet::new("shards", &names);
    let broker = Broker::shared();
    let samples = stream::samples(71, 3000, 0.0);
    let of = |name: &str, samples: &[Sample]| {
        let own = samples.iter().filter(|sample| shard(sample) == name);
        own.count()
    };
    let common = common_config();
    let cloud = format!("{common}triggers: {{when: ['new_samples >= 600']}}\n");
    fleet.cloud_config("live", 3 * BOOTSTRAP, &cloud);
    for (name, partitions) in SHARDS {
        fleet.edge_config(name, BOOTSTRAP, "samples: raw", &common);
        let file = format!("{name}.yaml");
        let config = String::from_utf8(fleet.bench.read(&file)).expect("text");
        let config = config.replace(&format!("shards-{name}"), "shards").replace(
            "\nkafka: {",
            &format!("\nkafka: {{partitions: '{partitions}', "),
        );
        fleet.bench.write(&file, config);
    }
    for topic in ["samples", "labels", "predictions"] {
        broker.create_topic(&format!("shards-{topic}"), PARTITIONS, &[]);
    }

    let (first, rest) = samples.split_at(1500);
    send(&broker, first, 0);
    let cloud = fleet.start("cloud");
    let mut running = names.map(|name| (name, Some(fleet.start(name))));
    let seen = of("two", first) / 2;
    fleet.wait_until("it is in the middle of its partition", || {
        fleet.status("two")["commit"]["samples"].as_u64() >= Some(seen as u64)
    });
    // Dropping it kills it.
    running[1].1 = None;
    send(&broker, rest, first.len());
    for name in ["one", "three"] {
        fleet.wait_for_answers(name, of(name, &samples));
    }
    running[1].1 = Some(fleet.start("two"));
    for name in names {
        fleet.wait_for_answers(name, of(name, &samples));
        fleet.wait_for_samples(name, of(name, &samples));
    }
    names.iter().for_each(|name| fleet.wait_for_knowledge(name));
    running
        .into_iter()
        .filter_map(|(_, it)| it)
        .for_each(|it| it.stop());
    cloud.stop();

    let predicted: Vec<Value> = broker
        .read("shards-predictions")
        .iter()
        .map(|read| json(&read.value))
        .collect();
    let ids: BTreeSet<&str> = predicted
        .iter()
        .filter_map(|it| it["id"].as_str())
        .collect();
    assert_eq!(ids.len(), samples.len() - 3 * BOOTSTRAP);
    assert_eq!(predicted.len(), ids.len(), "a sample is predicted twice");
    let base = fleet.bench.kb_json("cloud", &["show", "base"]);
    assert_eq!(base["labelled"], samples.len(), "{base}");
    for name in names.iter().chain(&["cloud"]) {
        fleet.assert_sound(name);
        assert_eq!(fleet.models(name), fleet.models("cloud"), "{name}");
    }
}
