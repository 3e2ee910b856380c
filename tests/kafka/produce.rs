//! `perennial produce`: a pipeline learns from its messages as from the file.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use serde_json::{Value, json};
use support::kafka::{Broker, PARTITIONS, Read};
use support::process::signal;
use support::stream::{self, Sample};
use support::{Bench, ended, json};

/// A folder with a stream and a pipeline on topics that begin with `name`.
fn bench(broker: &Broker, name: &str, csv: &str, more: &str) -> Bench {
    let bench = Bench::new();
    bench.write("stream.csv", csv);
    let kafka = format!("{{topic: {name}-samples, stop_at_end: true}}");
    let address = &broker.address;
    let config = stream::config("stream.csv", "records: 300").replace(
        "  path: stream.csv",
        &format!("  kafka: {kafka}\nkafka: {{brokers: '{address}'}}"),
    );
    bench.write(
        "config.yaml",
        format!("{config}produce: {{path: stream.csv}}\n{more}"),
    );
    bench
}

fn produce(bench: &Bench, more: &[&str]) -> support::Ended {
    let mut command = bench.command(&["produce", "config.yaml"]);
    ended(command.args(more).output())
}

/// Settings that send labels to a separate topic.
fn labels_apart(name: &str) -> [String; 4] {
    let topic = format!("labels={{kafka: {{topic: {name}-labels}}}}");
    ["--set", &topic, "--set", "produce.delay={records: 64}"].map(str::to_string)
}

fn texts(settings: &[String]) -> Vec<&str> {
    settings.iter().map(String::as_str).collect()
}

/// A schema for whatever the columns of the stream hold.
fn avro_schema() -> String {
    let number = ["time", "a", "b", "c"];
    let field = |name: &str| {
        if number.contains(&name) {
            json!({"name": name, "type": ["double", "null", "string"]})
        } else {
            json!({"name": name, "type": ["null", "string"]})
        }
    };
    let fields: Vec<Value> = stream::HEADER.split(',').map(field).collect();
    json!({"type": "record", "name": "Sample", "fields": fields}).to_string()
}

#[test]
fn produced_file_is_learned_like_the_file() {
    let broker = Broker::shared();
    let (lines, _) = stream::with_bad_lines(&stream::samples(51, 4000, 0.1), 52);
    // A line of the wrong width cannot be sent, so it would not count in the topic.
    let whole = lines
        .into_iter()
        .filter(|line| line.split(',').count() == 9);
    let csv = stream::csv_of(whole);
    let bench = bench(&broker, "same", &csv, "");
    bench.write("sample.avsc", avro_schema());
    let topics = [
        ("json", "source.kafka={topic: same-json, stop_at_end: true}"),
        (
            "avro",
            "source.kafka={topic: same-avro, stop_at_end: true, format: avro, schema: sample.avsc}",
        ),
    ];
    for (name, set) in topics {
        broker.create_topic(&format!("same-{name}"), 1, &[]);
        let group = format!("kafka.group=same-{name}");
        let sets = ["--set", set, "--set", &group];
        produce(&bench, &sets).success();
        bench.run_as(name, &sets).success();
    }
    bench.write("config.yaml", stream::config("stream.csv", "records: 300"));
    bench.run_as("file", &[]).success();
    for (name, _) in topics {
        let [ours, theirs] = [name, "file"].map(|name| bench.predictions(name));
        assert!(ours.len() > 3000, "{}", ours.len());
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert_eq!(ours, theirs);
        }
        assert_eq!(ours.len(), theirs.len());
        let [ours, theirs] = [name, "file"].map(|name| bench.report(name));
        for key in ["records", "predicted", "dead_letters", "bootstrapped"] {
            assert_eq!(ours[key], theirs[key], "{key}");
        }
        assert_ne!(ours["dead_letters"], 0, "{ours}");
    }
}

/// Runs on a simulated fleet directly and by way of a topic; asserts the same predictions.
fn same_by_way_of_a_topic(name: &str, own: &str, label: &str) {
    let broker = Broker::shared();
    let bench = Bench::new();
    bench.write("config.yaml", own);
    bench.run_as("own", &[]).success();
    let (head, rest) = own.split_once("  simulator:\n").expect("a simulator");
    let (simulator, rest) = rest.split_once("tasks:").expect("tasks");
    let features: Vec<String> = (0..8).map(|at| format!("s{at}")).collect();
    let config = format!(
        "{head}  kafka: {{topic: {name}-samples, stop_at_end: true}}
kafka: {{brokers: '{}'}}
schema:
  {{id: id, time: time, site: site, attributes: [season, zone], features: [{}],
   label: {{column: label, {label}}}}}
produce:
  simulator:
{simulator}tasks:{rest}",
        broker.address,
        features.join(", ")
    );
    bench.write("config.yaml", config);
    broker.create_topic(&format!("{name}-samples"), 1, &[]);
    let sent = produce(&bench, &[]).success();
    assert!(sent.stdout.starts_with("sent 6000 samples in "), "{sent:?}");
    bench.run_as("topic", &[]).success();
    let [own, topic] = ["own", "topic"].map(|name| bench.predictions(name));
    assert_eq!((own.len(), topic.len()), (4000, 4000));
    for (own, topic) in own.iter().zip(&topic) {
        assert_eq!(own, topic);
    }
    let other = ["--set", "produce.simulator.features=4"];
    produce(&bench, &other).failure(1, &["no column \"s4\"", "produce.simulator"]);
}

#[test]
fn produced_simulation_is_learned_like_the_simulation() {
    let classes = support::simulator(6000, "records: 300");
    same_by_way_of_a_topic("fleet", &classes, "classes: [c0, c1, c2]");
    let numbers = support::numbers(6000, "records: 300");
    same_by_way_of_a_topic("numbers", &numbers, "kind: number");
}

/// The partition that Java's clients choose for a key: murmur2 as in Kafka's own sources.
fn java_partition(key: &[u8]) -> i32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c_u32 ^ key.len() as u32;
    let (words, rest) = key.split_at(key.len() / 4 * 4);
    for word in words.chunks(4) {
        let mut k = u32::from_le_bytes(word.try_into().expect("four bytes")).wrapping_mul(M);
        k = (k ^ (k >> 24)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    for (at, byte) in rest.iter().enumerate() {
        hash ^= u32::from(*byte) << (8 * at);
    }
    if !rest.is_empty() {
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^= hash >> 15;
    (hash & 0x7fff_ffff) as i32 % PARTITIONS
}

/// The messages of a topic, by id.
fn by_id(messages: Vec<Read>) -> BTreeMap<String, (Read, Value)> {
    let count = messages.len();
    let pairs = messages.into_iter().map(|message| {
        let value = json(&message.value);
        let id = value["id"].as_str().expect("an id").to_string();
        (id, (message, value))
    });
    let by_id: BTreeMap<_, _> = pairs.collect();
    assert_eq!(by_id.len(), count, "an id comes twice");
    by_id
}

#[test]
fn labels_follow_their_samples() {
    let broker = Broker::shared();
    let samples = stream::samples(53, 3000, 0.1);
    let bench = bench(&broker, "behind", &stream::csv(&samples), "");
    let sets = labels_apart("behind");
    let sent = produce(&bench, &texts(&sets)).success();
    let labelled: Vec<&Sample> = samples.iter().filter(|s| s.label.is_some()).collect();
    let expected = format!("sent 3000 samples and {} labels in ", labelled.len());
    assert!(sent.stdout.starts_with(&expected), "{sent:?}");
    let sent_samples = by_id(broker.read("behind-samples"));
    let sent_labels = by_id(broker.read("behind-labels"));
    assert_eq!(sent_samples.len(), samples.len());
    assert_eq!(sent_labels.len(), labelled.len());
    let mut last = [-1; PARTITIONS as usize];
    for (at, sample) in samples.iter().enumerate() {
        let (message, value) = &sent_samples[&sample.id];
        assert_eq!(message.key.as_deref(), Some(sample.site.as_bytes()));
        assert_eq!(message.partition, java_partition(sample.site.as_bytes()));
        let mut whole = json(sample.json().as_bytes());
        whole.as_object_mut().expect("an object").remove("label");
        assert_eq!(*value, whole);
        // In the order of the file.
        let last = &mut last[message.partition as usize];
        assert!(message.offset > *last);
        *last = message.offset;
        let Some(label) = sample.label else { continue };
        let (label_message, value) = &sent_labels[&sample.id];
        assert_eq!(
            *value,
            json!({"id": sample.id, "label": stream::CLASSES[label]})
        );
        assert_eq!(
            (&label_message.key, label_message.partition),
            (&message.key, message.partition)
        );
        // The label follows 64 samples later, no more.
        let timestamp = |at: usize| {
            sent_samples
                .get(&samples.get(at)?.id)
                .map(|s| s.0.timestamp)
        };
        let after = timestamp(at + 64).unwrap_or(message.timestamp);
        let before = timestamp(at + 65).unwrap_or(i64::MAX);
        assert!((after..=before).contains(&label_message.timestamp), "{at}");
    }
    // A pipeline joins them.
    bench.run_as("run", &texts(&sets[..2])).success();
    let report = bench.report("run");
    assert_eq!(report["predicted"], 2200, "{report}");
    let scored = |sample: &&&Sample| sample.id[1..].parse::<u32>().expect("a number") >= 800;
    let learned = report["labelled"].as_u64().expect("a number");
    // Timestamps have milliseconds, so that samples of several partitions may change places.
    let expected = labelled.iter().filter(scored).count() as u64;
    assert!(learned.abs_diff(expected) < 100, "{report}");
}

#[test]
fn rate_and_label_delay_are_kept() {
    let broker = Broker::shared();
    let samples = stream::samples(54, 200, 0.0);
    let bench = bench(&broker, "slow", &stream::csv(&samples), "");
    let mut sets = labels_apart("slow");
    sets[3] = "produce.delay={seconds: 0.3}".to_string();
    let mut sets = texts(&sets);
    sets.extend(["--set", "produce.rate=1000", "--set", "produce.key=id"]);
    let began = UNIX_EPOCH.elapsed().expect("a time").as_millis() as i64;
    produce(&bench, &sets).success();
    let sent_samples = by_id(broker.read("slow-samples"));
    let sent_labels = by_id(broker.read("slow-labels"));
    for (at, sample) in samples.iter().enumerate() {
        let (message, _) = &sent_samples[&sample.id];
        assert_eq!(message.key.as_deref(), Some(sample.id.as_bytes()));
        // No message is sent early.
        assert!(message.timestamp >= began + at as i64, "{at}");
        let label = &sent_labels[&sample.id].0;
        assert!(label.timestamp >= message.timestamp + 300 - 1, "{at}");
    }
}

#[test]
fn bad_lines_are_skipped_and_counted() {
    let broker = Broker::shared();
    let (lines, _) = stream::with_bad_lines(&stream::samples(55, 500, 0.0), 56);
    let narrow = lines.iter().filter(|line| line.split(',').count() != 9);
    let narrow = narrow.count();
    assert!(narrow > 0);
    let bench = bench(
        &broker,
        "junk",
        &stream::csv_of(lines.clone().into_iter()),
        "",
    );
    let sent = produce(&bench, &[]).success();
    let expected = format!("; {narrow} bad records left out\n");
    assert!(sent.stdout.ends_with(&expected), "{sent:?}");
    assert!(sent.stderr.contains("columns, the header 9"), "{sent:?}");
    assert_eq!(broker.read("junk-samples").len(), lines.len() - narrow);
}

#[test]
fn sigterm_delivers_all_that_was_sent() {
    let broker = Broker::shared();
    let samples = stream::samples(57, 100_000, 0.0);
    let bench = bench(&broker, "ended", &stream::csv(&samples), "");
    let mut sets = labels_apart("ended").to_vec();
    sets.extend(["--set", "produce.rate=500"].map(str::to_string));
    let mut command = bench.command(&["produce", "config.yaml"]);
    command.args(&sets).stdout(std::process::Stdio::piped());
    let child = command.stderr(std::process::Stdio::piped()).spawn();
    let child = child.expect("the program starts");
    let began = Instant::now();
    while broker.read("ended-labels").is_empty() {
        assert!(began.elapsed() < Duration::from_secs(60), "nothing comes");
        std::thread::sleep(Duration::from_millis(100));
    }
    signal(child.id(), "TERM");
    let sent = ended(child.wait_with_output()).success();
    let count = broker.read("ended-samples").len();
    let labels = broker.read("ended-labels").len();
    let expected = format!("sent {count} samples and {labels} labels in ");
    assert!(sent.stdout.starts_with(&expected), "{sent:?}");
    let waiting = count - labels;
    let expected = format!("stopped before the end of the input; {waiting} labels were still");
    assert!(sent.stderr.contains(&expected), "{sent:?}");
}

#[test]
fn bad_settings_are_refused() {
    let broker = Broker::shared();
    let csv = stream::csv(&stream::samples(58, 10, 0.0));
    let bench = bench(&broker, "absent", &csv, "");
    let refused = |set: &str, status: i32, words: &[&str]| {
        produce(&bench, &["--set", set]).failure(status, words);
    };
    refused(
        "kafka.options={allow.auto.create.topics: false}",
        1,
        &["topic \"absent-samples\" does not exist", "kafka-topics.sh"],
    );
    refused(
        "kafka.brokers=127.0.0.1:1",
        1,
        &["no Kafka broker answers at 127.0.0.1:1"],
    );
    refused(
        "produce.path=steam.csv",
        1,
        &["steam.csv does not exist", "did you mean"],
    );
    refused(
        "produce.key=stie",
        2,
        &["produce.key", "did you mean \"site\"?"],
    );
    refused("produce.rate=0", 2, &["produce.rate"]);
    refused("produce.pth=a.csv", 2, &["did you mean \"path\"?"]);
    refused("produce.simulator={}", 2, &["exclude each other"]);
    refused("produce.delay.records=1", 2, &["set labels.kafka"]);
    // A run checks the section too, but does not need it.
    let run = bench.run(&["run", "config.yaml", "--set", "produce.key=stie"]);
    run.failure(2, &["produce.key", "did you mean \"site\"?"]);
    refused("produce=~", 2, &["produce: missing", "simulator"]);
    bench.write("config.yaml", stream::config("stream.csv", "records: 1"));
    let section = "produce={path: stream.csv}";
    refused(section, 2, &["source.kafka: missing", "perennial produce"]);
}

#[test]
fn partition_counts_of_samples_and_labels_must_match() {
    let broker: Arc<Broker> = Broker::shared();
    let csv = stream::csv(&stream::samples(59, 10, 0.0));
    let bench = bench(&broker, "odd", &csv, "");
    broker.create_topic("odd-labels", 3, &[]);
    let sets = labels_apart("odd");
    let words = ["has 4 partitions", "\"odd-labels\" has 3"];
    produce(&bench, &texts(&sets)).failure(1, &words);
}

#[test]
fn undelivered_messages_are_reported() {
    let broker = Broker::shared();
    let csv = stream::csv(&stream::samples(60, 10, 0.0));
    let bench = bench(&broker, "tiny", &csv, "");
    broker.create_topic("tiny-samples", 1, &["max.message.bytes=100"]);
    let words = ["10 messages could not be delivered", "too large"];
    let sent = produce(&bench, &[]).failure(1, &words);
    assert!(sent.stdout.starts_with("sent 10 samples in "), "{sent:?}");
}
