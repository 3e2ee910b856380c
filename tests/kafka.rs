//! Kafka in and out, on a real broker: each input once in the results, whatever happens.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use common::kafka::{Broker, PARTITIONS, Read};
use common::stream::{self, Sample};
use common::{Bench, Ended, ended};

/// Samples of the bootstrap.
const BOOTSTRAP: usize = 800;
/// Samples after which the label that a sample carries is known.
const DELAY: usize = 300;
/// The timestamp of the first message, milliseconds since 1970.
const START: i64 = 1_700_000_000_000;

/// A pipeline on topics of its own.
struct Pipeline {
    bench: Bench,
    broker: std::sync::Arc<Broker>,
    name: String,
    labels_apart: bool,
}

impl Pipeline {
    /// The topics get the name as prefix.
    fn new(broker: &std::sync::Arc<Broker>, name: &str, labels_apart: bool) -> Pipeline {
        let bench = Bench::new();
        let labels = match labels_apart {
            true => format!("kafka: {{topic: {name}-labels}}"),
            false => format!("delay: {{records: {DELAY}}}"),
        };
        let address = &broker.address;
        let config = format!(
            "name: {name}
mode: live
kafka: {{brokers: '{address}'}}
source:
  kafka: {{topic: {name}-samples, stop_at_end: true}}
{schema}bootstrap:
  records: {BOOTSTRAP}
labels:
  {labels}
training:
  min_samples: 100
  samples_per_task: 200
  trees: {{rounds: 8, max_depth: 3}}
triggers:
  when: ['new_samples >= 600']
epoch: {{records: 100, tick_ms: 5}}
commit: {{interval_ms: 20}}
predictions:
  kafka: {{topic: {name}-predictions}}
dead_letters:
  kafka: {{topic: {name}-dead-letters}}
",
            schema = stream::SCHEMA,
        );
        bench.write("config.yaml", config);
        Pipeline {
            bench,
            broker: broker.clone(),
            name: name.to_string(),
            labels_apart,
        }
    }

    fn topic(&self, name: &str) -> String {
        format!("{}-{name}", self.name)
    }

    /// Samples over all partitions by site, one a millisecond; labels 50 ms later, if they are apart.
    fn produce(&self, samples: &[Sample]) {
        let labels_apart = self.labels_apart;
        let partition =
            |sample: &Sample| sample.site[1..].parse::<i32>().expect("a number") % PARTITIONS;
        let message = |at: usize, value: String| {
            let sample = &samples[at];
            let time = START + at as i64;
            (
                partition(sample),
                time,
                sample.site.clone(),
                Some(value.into_bytes()),
            )
        };
        let bare = |sample: &Sample| Sample {
            label: sample.label.filter(|_| !labels_apart),
            ..sample.clone()
        };
        let values: Vec<_> = (0..samples.len())
            .map(|at| message(at, bare(&samples[at]).json()))
            .collect();
        self.broker.produce(&self.topic("samples"), &values);
        if labels_apart {
            let labels: Vec<_> = (0..samples.len())
                .filter_map(|at| {
                    let class = stream::CLASSES[samples[at].label?];
                    let value = serde_json::json!({"id": samples[at].id, "label": class});
                    let (partition, time, key, value) = message(at, value.to_string());
                    Some((partition, time + 50, key, value))
                })
                .collect();
            self.broker.produce(&self.topic("labels"), &labels);
        }
    }

    fn run(&self, more: &[&str]) -> Ended {
        ended(self.command(more).output())
    }

    fn command(&self, more: &[&str]) -> std::process::Command {
        let mut command = self.bench.command(&[
            "run",
            "config.yaml",
            "--state",
            "state",
            "--report",
            "report.json",
        ]);
        command.args(more);
        command
    }

    /// Checks the results of these samples against a recount: each scored one is predicted once, with the
    /// key, timestamp and place of its message, and the report has what predictions and labels say.
    fn check(&self, samples: &[Sample]) -> Vec<Read> {
        let inputs: BTreeMap<(String, String), Read> = self
            .broker
            .read(&self.topic("samples"))
            .into_iter()
            .map(|input| {
                (
                    (input.partition.to_string(), input.offset.to_string()),
                    input,
                )
            })
            .collect();
        // What the last samples carry is not known yet.
        let known = match self.labels_apart {
            true => samples.len(),
            false => samples.len() - DELAY,
        };
        let labels: BTreeMap<&str, Option<usize>> = samples[..known]
            .iter()
            .map(|sample| (&*sample.id, sample.label))
            .collect();
        let predictions = self.broker.read(&self.topic("predictions"));
        let mut seen = BTreeSet::new();
        let (mut labelled, mut right, mut unlabelled) = (0, 0, 0);
        for prediction in &predictions {
            let header = |name: &str| prediction.headers[name].clone();
            let place = (header("perennial.partition"), header("perennial.offset"));
            assert_eq!(header("perennial.topic"), self.topic("samples"));
            assert!(seen.insert(place.clone()), "{place:?} is predicted twice");
            let input = &inputs[&place];
            let value = common::json(&prediction.value);
            assert_eq!(value["id"], common::json(&input.value)["id"]);
            assert_eq!(value["task"], *header("perennial.task"));
            assert_eq!(value["model"], *header("perennial.model"));
            assert_eq!(
                (&prediction.key, prediction.timestamp),
                (&input.key, input.timestamp)
            );
            match labels.get(value["id"].as_str().expect("an id")) {
                Some(Some(label)) => {
                    labelled += 1;
                    right += u32::from(value["prediction"] == stream::CLASSES[*label]);
                }
                // A label of its own may still come.
                Some(None) => unlabelled += u32::from(!self.labels_apart),
                None => {}
            }
        }
        assert_eq!(predictions.len(), samples.len() - BOOTSTRAP);
        let report = self.bench.report("report");
        assert_eq!(report["predicted"], predictions.len(), "{report}");
        assert_eq!(report["labelled"], labelled, "{report}");
        assert_eq!(report["unlabelled"], unlabelled, "{report}");
        let accuracy = f64::from(right) / f64::from(labelled);
        assert_eq!(report["accuracy"], accuracy, "{report}");
        let verified = self.bench.run(&["kb", "--state", "state", "verify"]);
        verified.success();
        predictions
    }
}

#[test]
fn each_sample_is_predicted_once_with_what_came_with_it() {
    let broker = Broker::shared();
    for (name, labels_apart) in [("once", false), ("apart", true)] {
        let pipeline = Pipeline::new(&broker, name, labels_apart);
        let samples = stream::samples(31, 3000, 0.1);
        pipeline.produce(&samples);
        pipeline.run(&["--workers", "2"]).success();
        pipeline.check(&samples);
        // What comes later goes on from there.
        let more = stream::samples(32, 4000, 0.1);
        pipeline.produce(&more[3000..]);
        let all: Vec<Sample> = samples.iter().chain(&more[3000..]).cloned().collect();
        let ended = pipeline.run(&[]).success();
        assert!(ended.stdout.contains("4000 records"), "{ended:?}");
        pipeline.check(&all);
    }
}

#[test]
fn poison_becomes_dead_letters_byte_for_byte() {
    let broker = Broker::shared();
    let pipeline = Pipeline::new(&broker, "poison", false);
    let samples = stream::samples(33, 2000, 0.0);
    pipeline.produce(&samples);
    let mut future = samples[0].clone();
    (future.id, future.time) = ("future".to_string(), 4_000_000_000);
    let poison: [(Option<Vec<u8>>, &str); 5] = [
        (Some(b"{\"id\": \"torn".to_vec()), "not a JSON object"),
        (Some(b"\x00\xff\xfe".to_vec()), "not a JSON object"),
        (None, "no value"),
        (Some(vec![b' '; 10 << 20]), "longer than 1048576 bytes"),
        (Some(future.json().into_bytes()), "still to come"),
    ];
    let messages: Vec<_> = poison
        .iter()
        .enumerate()
        .map(|(at, (value, _))| (2, START + 5000 + at as i64, format!("k{at}"), value.clone()))
        .collect();
    broker.produce(&pipeline.topic("samples"), &messages);
    let last = stream::samples(34, 2010, 0.0);
    pipeline.produce(&last[2000..]);
    pipeline.run(&[]).success();
    let all: Vec<Sample> = samples.iter().chain(&last[2000..]).cloned().collect();
    pipeline.check(&all);
    let mut letters = broker.read(&pipeline.topic("dead-letters"));
    letters.sort_by_key(|letter| letter.key.clone());
    assert_eq!(letters.len(), poison.len());
    for (letter, (value, reason)) in letters.iter().zip(&poison) {
        assert_eq!(letter.value, value.clone().unwrap_or_default());
        let said = &letter.headers["perennial.reason"];
        assert!(said.contains(reason), "{said}");
        assert_eq!(letter.headers["perennial.partition"], "2");
    }
}

#[test]
fn a_pipeline_killed_anywhere_in_a_commit_goes_on() {
    let broker = Broker::shared();
    let points = [
        "before outputs",
        "after outputs",
        "prepared",
        "decided",
        "after knowledge",
    ];
    let pipeline = Pipeline::new(&broker, "killed", true);
    let samples = stream::samples(35, 6000, 0.1);
    pipeline.produce(&samples);
    let mut kills = 0;
    for point in points.iter().cycle() {
        let count = 1 + kills % 3;
        let mut command = pipeline.command(&["--workers", "2"]);
        command.env("PERENNIAL_KILL_AT", format!("commit: {point}#{count}"));
        let ended = ended(command.output());
        if ended.status.is_some() {
            ended.success();
            break;
        }
        kills += 1;
        assert!(kills < 200, "it never ends");
    }
    assert!(kills >= 10, "{kills} kills");
    pipeline.check(&samples);
}

/// The schema that [`avro`] writes with.
const AVRO: &str = r#"{"type": "record", "name": "Sample", "fields": [
    {"name": "note", "type": {"type": "array", "items": "string"}},
    {"name": "id", "type": "string"},
    {"name": "time", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    {"name": "site", "type": "string"},
    {"name": "season", "type": {"type": "enum", "name": "Season", "symbols": ["dry", "wet"]}},
    {"name": "a", "type": ["null", "double"]},
    {"name": "b", "type": ["null", "double"]},
    {"name": "c", "type": ["null", "double"]},
    {"name": "mode", "type": "string"},
    {"name": "label", "type": ["null", "string"]}
]}"#;

/// A sample as Avro, by the specification and not by the library that the pipeline reads it with.
fn avro(sample: &Sample) -> Vec<u8> {
    let mut bytes = Vec::new();
    let long = |bytes: &mut Vec<u8>, value: i64| {
        let mut rest = ((value << 1) ^ (value >> 63)) as u64;
        while rest >= 0x80 {
            bytes.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        bytes.push(rest as u8);
    };
    let text = |bytes: &mut Vec<u8>, value: &str| {
        long(bytes, value.len() as i64);
        bytes.extend_from_slice(value.as_bytes());
    };
    long(&mut bytes, 1);
    text(&mut bytes, "of no use");
    long(&mut bytes, 0);
    text(&mut bytes, &sample.id);
    long(&mut bytes, sample.time * 1000);
    text(&mut bytes, &sample.site);
    long(&mut bytes, i64::from(sample.season == "wet"));
    for number in sample.numbers {
        long(&mut bytes, i64::from(number.is_some()));
        bytes.extend(number.iter().flat_map(|number| number.to_le_bytes()));
    }
    text(&mut bytes, sample.mode);
    long(&mut bytes, i64::from(sample.label.is_some()));
    if let Some(label) = sample.label {
        text(&mut bytes, stream::CLASSES[label]);
    }
    bytes
}

#[test]
fn avro_is_read_and_written() {
    let broker = Broker::shared();
    let pipeline = Pipeline::new(&broker, "avro", false);
    pipeline.bench.write("sample.avsc", AVRO);
    let samples = stream::samples(39, 2000, 0.1);
    let mut messages: Vec<_> = samples
        .iter()
        .enumerate()
        .map(|(at, sample)| {
            (
                0,
                START + at as i64,
                sample.site.clone(),
                Some(avro(sample)),
            )
        })
        .collect();
    let torn = avro(&samples[0])[..20].to_vec();
    messages.push((0, START + 2000, "torn".to_string(), Some(torn.clone())));
    broker.produce(&pipeline.topic("samples"), &messages);
    let source =
        "source.kafka={topic: avro-samples, format: avro, schema: sample.avsc, stop_at_end: true}";
    let sink = "predictions.kafka={topic: avro-predictions, format: avro}";
    pipeline.run(&["--set", source, "--set", sink]).success();
    let predictions = broker.read(&pipeline.topic("predictions"));
    let mut ids = BTreeSet::new();
    for prediction in &predictions {
        // A record begins with its first field, the id: length and text.
        let length = usize::from(prediction.value[0]) / 2;
        let id = String::from_utf8_lossy(&prediction.value[1..=length]);
        let at: usize = prediction.headers["perennial.offset"]
            .parse()
            .expect("a number");
        assert_eq!(id, samples[at].id);
        assert!(ids.insert(at));
    }
    assert_eq!(ids.len(), samples.len() - BOOTSTRAP);
    // The same samples as JSON give the same report.
    let json = Pipeline::new(&broker, "json", false);
    let messages: Vec<_> = samples
        .iter()
        .enumerate()
        .map(|(at, s)| {
            (
                0,
                START + at as i64,
                s.site.clone(),
                Some(s.json().into_bytes()),
            )
        })
        .collect();
    broker.produce(&json.topic("samples"), &messages);
    json.run(&[]).success();
    let (ours, theirs) = (pipeline.bench.report("report"), json.bench.report("report"));
    for key in ["predicted", "labelled", "unlabelled", "bootstrapped"] {
        assert_eq!(ours[key], theirs[key], "{key}");
    }
    assert_eq!(ours["dead_letters"], 1);
    let letters = broker.read(&pipeline.topic("dead-letters"));
    assert_eq!((letters.len(), &letters[0].value), (1, &torn));
    // A registry that is not there is told.
    let registry = format!(
        "kafka={{brokers: '{}', registry: {{url: 'http://127.0.0.1:1'}}}}",
        broker.address
    );
    let ended = pipeline.run(&["--set", source, "--set", sink, "--set", &registry]);
    ended.failure(1, &["127.0.0.1:1"]);
}

#[test]
fn a_zombie_is_fenced() {
    let broker = Broker::shared();
    let pipeline = Pipeline::new(&broker, "zombie", false);
    let samples = stream::samples(36, 2000, 0.0);
    pipeline.produce(&samples);
    // The first one goes on waiting for samples; a second one with a state of its own takes over.
    let endless = ["--set", "source.kafka.stop_at_end=false"];
    let first = pipeline
        .command(&endless)
        .stderr(std::process::Stdio::piped())
        .spawn();
    let mut first = first.expect("the program starts");
    std::thread::sleep(Duration::from_secs(3));
    let mut second = pipeline
        .bench
        .command(&["run", "config.yaml", "--state", "other"]);
    let refused = ended(second.output());
    refused.failure(1, &["consumer group \"zombie\"", "do not belong together"]);
    // It was refused, but the first one is fenced all the same when it has something to say.
    pipeline.produce(&stream::samples(37, 2100, 0.0)[2000..]);
    let began = std::time::Instant::now();
    while first.try_wait().expect("a child").is_none() {
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "it is not fenced"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    let ended = ended(first.wait_with_output());
    ended.failure(1, &["another process has taken over"]);
    // The first one's state still goes with the group.
    let all: Vec<Sample> = samples
        .iter()
        .chain(&stream::samples(37, 2100, 0.0)[2000..])
        .cloned()
        .collect();
    pipeline.run(&[]).success();
    pipeline.check(&all);
}

#[test]
fn a_broker_that_crashes_is_waited_for() {
    let broker = std::sync::Arc::new(Broker::start());
    let pipeline = Pipeline::new(&broker, "broken", true);
    let samples = stream::samples(38, 4000, 0.1);
    pipeline.produce(&samples[..2000]);
    let endless = ["--set", "source.kafka.stop_at_end=false"];
    let child = pipeline.command(&endless).spawn();
    let child = child.expect("the program starts");
    std::thread::sleep(Duration::from_secs(3));
    broker.crash(Duration::from_secs(5));
    pipeline.produce(&samples[2000..]);
    std::thread::sleep(Duration::from_secs(3));
    let told = std::process::Command::new("kill")
        .args(["-TERM", &child.id().to_string()])
        .status();
    told.expect("kill is there");
    ended(child.wait_with_output()).success();
    pipeline.run(&[]).success();
    pipeline.check(&samples);
}

#[test]
fn what_is_missing_is_told() {
    let broker = Broker::shared();
    let pipeline = Pipeline::new(&broker, "missing", false);
    let words = [
        "topic \"missing-samples\" does not exist",
        "kafka-topics.sh",
    ];
    pipeline.run(&[]).failure(1, &words);
    let nobody = ["--set", "kafka.brokers=127.0.0.1:1"];
    pipeline
        .run(&nobody)
        .failure(1, &["no Kafka broker answers at 127.0.0.1:1"]);
    let secret = ["--set", "kafka.options={security.protocol: hunter2}"];
    let ended = pipeline.run(&secret);
    assert!(!ended.stderr.contains("hunter2"), "{ended:?}");
    ended.failure(2, &["kafka.options", "security.protocol"]);
    let pinned = ["--set", "kafka.options={group.id: other}"];
    pipeline
        .run(&pinned)
        .failure(2, &["kafka.options.group.id", "set kafka.group"]);
}
