//! A cloud that trains, and edges that answer by what it publishes, on two brokers.

mod common;

use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::kafka::{Broker, PARTITIONS};
use common::process::signal;
use common::stream::{self, CLASSES, Sample};
use common::topics::START;
use common::{Bench, ended};
use serde_json::Value;

/// Samples of the cloud's bootstrap.
const BOOTSTRAP: usize = 800;
/// How long something may take to happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// A cloud and its edges in one folder.
struct Fleet {
    bench: Bench,
    cloud: Arc<Broker>,
    edge: Arc<Broker>,
    name: String,
}

impl Fleet {
    fn new(name: &str) -> Fleet {
        let fleet = Fleet {
            bench: Bench::new(),
            cloud: Arc::new(Broker::start()),
            edge: Broker::shared(),
            name: name.to_string(),
        };
        fleet.keys("cloud");
        fleet
    }

    /// Makes a pair of keys as the documentation says.
    fn keys(&self, name: &str) {
        let (private, public) = (format!("{name}.pem"), format!("{name}-public.pem"));
        let openssl = |arguments: &[&str]| {
            let made = Command::new("openssl")
                .args(arguments)
                .current_dir(self.bench.path("."))
                .output();
            ended(made).success();
        };
        openssl(&["genpkey", "-algorithm", "ed25519", "-out", &private]);
        openssl(&["pkey", "-in", &private, "-pubout", "-out", &public]);
    }

    fn knowledge(&self) -> String {
        format!("{}-knowledge", self.name)
    }

    /// Writes the cloud's config: it learns from a file.
    fn cloud_config(&self, samples: &[Sample]) {
        self.bench.write("cloud.csv", stream::csv(samples));
        let config = stream::config("cloud.csv", "records: 100");
        let link = format!(
            "role: cloud\nlink: {{kafka: {{brokers: '{}'}}, knowledge: {}, sign: cloud.pem}}\n",
            self.cloud.address,
            self.knowledge(),
        );
        self.bench.write("cloud.yaml", format!("{config}{link}"));
    }

    fn run_cloud(&self) {
        let arguments = [
            "run",
            "cloud.yaml",
            "--state",
            "cloud",
            "--report",
            "cloud.json",
        ];
        self.bench.run(&arguments).success();
    }

    /// Writes the config of an edge, which reads samples and labels from topics of its own.
    fn edge_config(&self, edge: &str, more: &str) {
        let name = format!("{}-{edge}", self.name);
        let config = format!(
            "name: {name}
mode: live
role: edge
link: {{kafka: {{brokers: '{}'}}, knowledge: {}, verify: cloud-public.pem{more}}}
kafka: {{brokers: '{}'}}
source:
  kafka: {{topic: {name}-samples, stop_at_end: true}}
{schema}labels:
  kafka: {{topic: {name}-labels}}
epoch: {{records: 100, tick_ms: 5}}
commit: {{interval_ms: 20}}
predictions:
  kafka: {{topic: {name}-predictions}}
",
            self.cloud.address,
            self.knowledge(),
            self.edge.address,
            schema = stream::SCHEMA,
        );
        self.bench.write(&format!("{edge}.yaml"), config);
    }

    fn edge_command(&self, edge: &str) -> Command {
        let (config, report) = (format!("{edge}.yaml"), format!("{edge}.json"));
        let arguments = [
            "run",
            config.as_str(),
            "--state",
            edge,
            "--report",
            report.as_str(),
        ];
        self.bench.command(&arguments)
    }

    /// Sends samples to an edge, and their labels.
    fn produce(&self, edge: &str, samples: &[Sample]) {
        let topic = |what: &str| format!("{}-{edge}-{what}", self.name);
        let message = |sample: &Sample, value: String| {
            let partition = sample.site[1..].parse::<i32>().expect("a number") % PARTITIONS;
            (
                partition,
                START,
                sample.site.clone(),
                Some(value.into_bytes()),
            )
        };
        let bare = |sample: &Sample| Sample {
            label: None,
            ..sample.clone()
        };
        let values: Vec<_> = samples
            .iter()
            .map(|sample| message(sample, bare(sample).json()))
            .collect();
        self.edge.produce(&topic("samples"), &values);
        let labels: Vec<_> = samples
            .iter()
            .map(|sample| {
                let class = CLASSES[sample.label.expect("a label")];
                let value = serde_json::json!({"id": sample.id, "label": class});
                message(sample, value.to_string())
            })
            .collect();
        self.edge.produce(&topic("labels"), &labels);
    }

    fn predictions(&self, edge: &str) -> Vec<Value> {
        let topic = format!("{}-{edge}-predictions", self.name);
        let read = self.edge.read(&topic);
        read.iter().map(|read| common::json(&read.value)).collect()
    }

    fn assert_sound(&self, state: &str) {
        let verified = self
            .bench
            .run(&["kb", "--state", state, "verify"])
            .success();
        assert!(verified.stdout.starts_with("sound: "), "{verified:?}");
    }

    fn models(&self, state: &str) -> Vec<(Value, Value, Value)> {
        let models = self.bench.kb_json(state, &["models"]);
        let answering = models.as_array().expect("models").iter();
        let answering = answering.filter(|model| model["answers"] == true);
        answering
            .map(|model| {
                let hash = model["trained"]["hash"].clone();
                (model["task"].clone(), model["version"].clone(), hash)
            })
            .collect()
    }
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn stop(mut child: Child) {
    signal(child.id(), "TERM");
    assert!(child.wait().expect("a child").success());
}

#[test]
fn an_edge_answers_by_what_the_cloud_publishes_and_works_without_it() {
    let fleet = Fleet::new("link");
    let samples = stream::samples(51, 4000, 0.0);
    fleet.cloud_config(&samples[..2400]);
    fleet.edge_config("edge", "");
    fleet.produce("edge", &samples[2400..2800]);
    // Before the cloud has published anything, an edge has nothing to answer by.
    let early = ended(fleet.edge_command("edge").env("RUST_LOG", "warn").output());
    early.failure(1, &["this edge knows nothing yet", "start the cloud first"]);
    fleet.run_cloud();
    ended(fleet.edge_command("edge").output()).success();
    fleet.assert_sound("edge");
    assert_eq!(fleet.models("edge"), fleet.models("cloud"));
    assert!(fleet.models("edge").len() > 1);
    let predictions = fleet.predictions("edge");
    assert_eq!(predictions.len(), 400);
    assert_eq!(fleet.bench.report("edge")["labelled"], 400);
    assert!(fleet.bench.report("edge")["accuracy"].as_f64() > Some(0.6));
    // Without the cloud it goes on: from its own knowledge base, learning from its own labels.
    fleet.produce("edge", &samples[2800..3200]);
    let unreachable = "link.kafka.brokers=127.0.0.1:9";
    ended(
        fleet
            .edge_command("edge")
            .args(["--set", unreachable])
            .output(),
    )
    .success();
    assert_eq!(fleet.predictions("edge").len(), 800);
    // What the cloud has learned meanwhile is there when it is reached again, also while the edge runs.
    fleet.cloud_config(&samples[..3600]);
    let mut command = fleet.edge_command("edge");
    command.args(["--set", "source.kafka.stop_at_end=false"]);
    let child = command.spawn().expect("it starts");
    std::fs::remove_dir_all(fleet.bench.path("cloud")).expect("the cloud begins anew");
    fleet.run_cloud();
    wait_until("the edge follows", || {
        fleet.models("edge") == fleet.models("cloud")
    });
    fleet.produce("edge", &samples[3200..]);
    wait_until("the edge answers", || {
        fleet.predictions("edge").len() == 1600
    });
    stop(child);
    fleet.assert_sound("edge");
}

#[test]
fn an_edge_takes_what_it_serves_and_nothing_that_it_cannot_trust() {
    let fleet = Fleet::new("trust");
    fleet
        .cloud
        .create_topic(&fleet.knowledge(), PARTITIONS, &["cleanup.policy=compact"]);
    let samples = stream::samples(52, 3000, 0.0);
    fleet.cloud_config(&samples[..BOOTSTRAP + 1600]);
    fleet.run_cloud();
    // Of the tasks that the cloud has models for, those of one season and the base task.
    fleet.edge_config("dry", ", subscribe: [season=dry]");
    fleet.produce("dry", &samples[2400..2700]);
    ended(fleet.edge_command("dry").output()).success();
    let all = fleet.models("cloud");
    let dry = fleet.models("dry");
    let is_served = |name: &str| name == "base" || name.starts_with("season=dry");
    let served: Vec<_> = all
        .iter()
        .filter(|(task, ..)| task.as_str().is_some_and(is_served))
        .cloned()
        .collect();
    assert_eq!(dry, served);
    assert!(dry.len() < all.len());
    // Whoever has another key is not listened to.
    fleet.keys("other");
    fleet.edge_config("other", "");
    fleet.produce("other", &samples[2400..2500]);
    let verify = ["--set", "link.verify=other-public.pem"];
    let refused = ended(
        fleet
            .edge_command("other")
            .args(verify)
            .env("RUST_LOG", "warn")
            .output(),
    );
    refused.failure(
        1,
        &[
            "its signature is not that of the cloud",
            "knows nothing yet",
        ],
    );
    // Messages of others, torn, under another key or of a later version, are told, and the edge goes on with what it has.
    let genuine = fleet.cloud.read(&fleet.knowledge());
    let of_base = genuine
        .iter()
        .find(|read| read.key.as_deref() == Some(b"0000000000000000"))
        .expect("the base task");
    let mut changed = of_base.value.clone();
    let end = changed.len() - 100;
    changed[end] ^= 1;
    let mut newer = of_base.value.clone();
    newer[4] = 9;
    let torn = of_base.value[..50].to_vec();
    let base = "0000000000000000".to_string();
    let other = "0000000000000001".to_string();
    let messages = [
        (0, START, base.clone(), Some(changed)),
        (0, START, base.clone(), Some(newer)),
        (0, START, base, Some(torn)),
        (0, START, other, Some(of_base.value.clone())),
    ];
    fleet.cloud.produce(&fleet.knowledge(), &messages);
    fleet.produce("dry", &samples[2700..]);
    let mut command = fleet.edge_command("dry");
    command
        .args(["--set", "source.kafka.stop_at_end=false"])
        .env("RUST_LOG", "warn");
    let log = std::fs::File::create(fleet.bench.path("dry.log")).expect("a log");
    let child = command.stderr(log).spawn().expect("it starts");
    let reasons = [
        "its signature is not that of the cloud",
        "version 9 of the protocol",
        "a torn one",
        "its key is not that of the task",
    ];
    wait_until("all is told", || {
        let log = String::from_utf8(fleet.bench.read("dry.log")).expect("text");
        reasons.iter().all(|reason| log.contains(reason))
    });
    wait_until("the edge answers", || fleet.predictions("dry").len() == 600);
    stop(child);
    assert_eq!(fleet.models("dry"), dry);
    fleet.assert_sound("dry");
}

#[test]
fn settings_of_the_link_must_make_sense() {
    let bench = Bench::new();
    let samples = stream::samples(53, 100, 0.0);
    bench.write("stream.csv", stream::csv(&samples));
    let config = stream::config("stream.csv", "records: 100");
    let refused = |more: &str, words: &[&str]| {
        bench.write("config.yaml", format!("{config}{more}"));
        bench.run(&["validate", "config.yaml"]).failure(2, words);
    };
    let kafka = "kafka: {brokers: 'localhost:1'}";
    refused("role: cloud\n", &["link", "missing"]);
    refused(&format!("link: {{{kafka}}}\n"), &["link", "set role"]);
    refused(
        &format!("role: cloud\nlink: {{{kafka}}}\n"),
        &["link.sign", "openssl genpkey"],
    );
    refused(
        &format!("role: edge\nlink: {{{kafka}, verify: a.pem}}\n"),
        &["bootstrap", "from the cloud"],
    );
    bench.write(
        "config.yaml",
        format!("{config}role: cloud\nlink: {{{kafka}, sign: none.pem}}\n"),
    );
    bench
        .run(&["run", "config.yaml"])
        .failure(1, &["none.pem", "cannot be used"]);
}
