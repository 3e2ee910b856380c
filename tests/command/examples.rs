//! The examples in Python: the pipeline learns from what they send, and their counts are right.

use std::collections::BTreeMap;
use std::process::Command;

use support::kafka::Broker;
use support::{Bench, checkout, ended, json, python};

/// The text under `key` in a topic's messages, by id.
fn by_id(broker: &Broker, topic: &str, key: &str) -> BTreeMap<String, String> {
    let messages = broker.read(topic);
    let text = |value: &serde_json::Value| value.as_str().expect("a text").to_string();
    let pairs = messages.iter().map(|message| {
        let value = json(&message.value);
        (text(&value["id"]), text(&value[key]))
    });
    let by_id: BTreeMap<_, _> = pairs.collect();
    assert_eq!(by_id.len(), messages.len(), "an id comes twice");
    by_id
}

#[test]
fn python_produces_and_consumes() {
    let broker = Broker::shared();
    let python = python("examples/python");
    let script = |name: &str, more: &[&str]| {
        let mut command = Command::new(&python);
        command.arg(checkout("examples/python").join(name));
        command.args(["--brokers", &broker.address]).args(more);
        ended(command.output()).success().stdout
    };
    let sent = script("producer.py", &[]);
    assert_eq!(sent, "sent 900 readings and their labels\n");
    let bench = Bench::new();
    let config = std::fs::read_to_string(checkout("examples/python/rooms.yaml"));
    bench.write("config.yaml", config.expect("the config"));
    let brokers = format!("kafka.brokers={}", broker.address);
    let sets = [
        "--set",
        &brokers,
        "--set",
        "source.kafka.stop_at_end=true",
        "--report",
        "report.json",
    ];
    let run = ["run", "config.yaml"].iter().chain(&sets);
    bench.run(&run.collect::<Vec<_>>()).success();
    let printed = script("consumer.py", &["--stop-at-end"]);

    let predictions = by_id(&broker, "rooms-predictions", "prediction");
    let labels = by_id(&broker, "rooms-labels", "comfort");
    assert_eq!((predictions.len(), labels.len()), (600, 900));
    let right = predictions
        .iter()
        .filter(|(id, said)| labels[*id] == **said);
    let right = right.count();
    let accuracy = right as f64 / 600.0;
    let last = format!("600 labelled predictions, {right} right: accuracy {accuracy:.4}");
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(lines.last(), Some(&&*last), "{printed}");
    assert_eq!(lines.len(), 600 / 100 + 1, "{printed}");
    assert!(accuracy > 0.6, "{printed}");
    assert_eq!(bench.report("report")["accuracy"], accuracy);
}
