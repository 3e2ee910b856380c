//! A cloud and its edges: one broker for the cloud, one for all edges.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::Bench;
use crate::kafka::{Broker, PARTITIONS};
use crate::process::signal;
use crate::proxy::Proxy;
use crate::stream::{self, CLASSES, Sample};
use crate::topics::START;

/// Time limit of each wait.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// Starts a broker for a cloud, and a connection to it for edges.
fn cloud_broker() -> (Arc<Broker>, Arc<Proxy>) {
    let proxy = Proxy::start();
    let broker = Broker::start_behind(&proxy);
    (Arc::new(broker), Arc::new(proxy))
}

/// A cloud and its edges, with all configs and states in one folder.
pub struct Fleet {
    pub bench: Bench,
    pub cloud: Arc<Broker>,
    /// The connection from the edges to the cloud's broker.
    pub proxy: Arc<Proxy>,
    edge_broker: Arc<Broker>,
    name: String,
    edges: Vec<String>,
    /// Number of messages sent to each edge.
    sent: RefCell<BTreeMap<String, i64>>,
}

impl Fleet {
    /// Makes a fleet of these edges. The names of its topics begin with `name`. Its brokers, and
    /// the connection between them, are those of other fleets too.
    pub fn new(name: &str, edges: &[&str]) -> Fleet {
        static SHARED: Mutex<(Weak<Broker>, Weak<Proxy>)> = Mutex::new((Weak::new(), Weak::new()));
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        let cloud = match (shared.0.upgrade(), shared.1.upgrade()) {
            (Some(broker), Some(proxy)) => (broker, proxy),
            _ => cloud_broker(),
        };
        *shared = (Arc::downgrade(&cloud.0), Arc::downgrade(&cloud.1));
        drop(shared);
        Fleet::of(cloud, Broker::shared(), name, edges)
    }

    /// Makes a fleet with a cloud's broker of its own, so that the connection to it can be cut.
    pub fn with_own_link(name: &str, edges: &[&str]) -> Fleet {
        Fleet::of(cloud_broker(), Broker::shared(), name, edges)
    }

    /// Makes a fleet whose cloud and edges have one broker in a cluster; edges reach the link's
    /// topics through a proxy.
    pub fn of_one_broker(name: &str, edges: &[&str], settings: &[&str]) -> Fleet {
        let proxy = Arc::new(Proxy::start());
        let link = proxy.link();
        let settings: Vec<&str> = settings.iter().copied().chain([&*link]).collect();
        let broker = Arc::new(Broker::start_in_cluster(&settings));
        Fleet::of((broker.clone(), proxy), broker, name, edges)
    }

    fn of(
        (cloud, proxy): (Arc<Broker>, Arc<Proxy>),
        edge_broker: Arc<Broker>,
        name: &str,
        edges: &[&str],
    ) -> Fleet {
        let fleet = Fleet {
            bench: Bench::new(),
            cloud,
            proxy,
            edge_broker,
            name: name.to_string(),
            edges: edges.iter().map(ToString::to_string).collect(),
            sent: RefCell::default(),
        };
        fleet.keys("cloud");
        edges.iter().for_each(|edge| fleet.keys(edge));
        fleet.bench.write("secret", "not to be told to anybody");
        fleet.bench.set_mode("secret", 0o600);
        fleet
    }

    /// Makes a pair of signing keys with openssl, as the documentation does.
    pub fn keys(&self, name: &str) {
        self.bench.make_keys(name);
    }

    /// The topic of the cloud's tasks and models.
    pub fn knowledge(&self) -> String {
        format!("{}-knowledge", self.name)
    }

    /// The topic of the edges' changes.
    pub fn changes(&self) -> String {
        format!("{}-changes", self.name)
    }

    fn topics(&self) -> String {
        format!(
            "changes: {}, knowledge: {}",
            self.changes(),
            self.knowledge()
        )
    }

    /// Creates the topics of the link with [`PARTITIONS`] partitions.
    pub fn make_topics(&self) {
        self.cloud.create_topic(&self.changes(), PARTITIONS, &[]);
        let compacted = ["cleanup.policy=compact"];
        self.cloud
            .create_topic(&self.knowledge(), PARTITIONS, &compacted);
    }

    /// Writes the config of the cloud, which learns from its edges.
    pub fn cloud_config(&self, mode: &str, bootstrap: usize, rest: &str) {
        let edges = self.edges.iter();
        let edges: Vec<String> = edges
            .map(|edge| format!("{edge}: {edge}-public.pem"))
            .collect();
        let config = format!(
            "name: {}-cloud
mode: {mode}
role: cloud
link: {{kafka: {{brokers: '{}'}}, {}, sign: cloud.pem, edges: {{{}}}}}
source:
  edges: {{}}
bootstrap:
  records: {bootstrap}
{rest}",
            self.name,
            self.cloud.address,
            self.topics(),
            edges.join(", "),
        );
        self.bench.write("cloud.yaml", config);
    }

    /// Writes the config of an edge, which reads samples and labels from topics of its own.
    pub fn edge_config(&self, edge: &str, bootstrap: usize, share: &str, rest: &str) {
        let name = format!("{}-{edge}", self.name);
        let (sign, bootstrap) = (
            match share {
                "" => String::new(),
                _ => format!(", sign: {edge}.pem"),
            },
            match bootstrap {
                0 => String::new(),
                bootstrap => format!("bootstrap: {{records: {bootstrap}}}\n"),
            },
        );
        let config = format!(
            "name: {edge}
mode: live
role: edge
link: {{kafka: {{brokers: '127.0.0.1:{}'}}, {}, verify: cloud-public.pem{sign}}}
share: {{{share}}}
kafka: {{brokers: '{}', group: {name}}}
source:
  kafka: {{topic: {name}-samples}}
labels:
  kafka: {{topic: {name}-labels}}
predictions:
  kafka: {{topic: {name}-predictions}}
commit: {{interval_ms: 20}}
{bootstrap}{rest}",
            self.proxy.port,
            self.topics(),
            self.edge_broker.address,
        );
        self.bench.write(&format!("{edge}.yaml"), config);
    }

    /// Adds a setting to the link of the cloud or of an edge.
    pub fn set(&self, name: &str, setting: &str) {
        let file = format!("{name}.yaml");
        let config = String::from_utf8(self.bench.read(&file)).expect("text");
        let config = config.replace("link: {", &format!("link: {{{setting}, "));
        self.bench.write(&file, config);
    }

    /// The command that runs the cloud or an edge.
    pub fn command(&self, name: &str, more: &[&str]) -> Command {
        let (config, report) = (format!("{name}.yaml"), format!("{name}.json"));
        let mut arguments = vec![
            "run",
            config.as_str(),
            "--state",
            name,
            "--report",
            report.as_str(),
        ];
        arguments.extend(more);
        self.bench.command(&arguments)
    }

    /// Starts the cloud or an edge; its standard error goes to a file of its name.
    pub fn start(&self, name: &str) -> Running {
        self.start_logging(name, "warn")
    }

    /// Starts the cloud or an edge, which logs what `logged` names.
    pub fn start_logging(&self, name: &str, logged: &str) -> Running {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.bench.path(&format!("{name}.log")))
            .expect("a log");
        let child = self
            .command(name, &[])
            .env("RUST_LOG", logged)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        Running {
            child: child.expect("it starts"),
            log: self.bench.path(&format!("{name}.log")),
        }
    }

    /// The standard error of the cloud or of an edge.
    pub fn log(&self, name: &str) -> String {
        String::from_utf8_lossy(&self.bench.read(&format!("{name}.log"))).into_owned()
    }

    /// The status of the cloud or of an edge.
    pub fn status(&self, name: &str) -> Value {
        let config = format!("{name}.yaml");
        let arguments = ["status", &config, "--state", name, "--json"];
        let ended = self.bench.run(&arguments);
        match ended.status {
            Some(0) => crate::json(ended.stdout.as_bytes()),
            // It is not there yet.
            _ => Value::Null,
        }
    }

    /// Sends samples and their labels to an edge.
    pub fn produce(&self, edge: &str, samples: &[Sample]) {
        let bare = |sample: &Sample| Sample {
            label: None,
            ..sample.clone()
        };
        let messages = samples.iter().map(|sample| {
            let class = CLASSES[sample.label.expect("a label")];
            let label = serde_json::json!({"id": sample.id, "label": class});
            (sample.site.clone(), bare(sample).json(), label.to_string())
        });
        self.produce_json(edge, &messages.collect::<Vec<_>>());
    }

    /// Sends samples and their labels to an edge; each message is a site, a sample and a label.
    pub fn produce_json(&self, edge: &str, messages: &[(String, String, String)]) {
        let topic = |what: &str| format!("{}-{edge}-{what}", self.name);
        let mut sent = self.sent.borrow_mut();
        let sent = sent.entry(edge.to_string()).or_default();
        let (mut samples, mut labels) = (Vec::new(), Vec::new());
        for (site, sample, label) in messages {
            // One partition, so that what an edge reads is in one order; each label comes before
            // the next sample.
            let message = |time: i64, value: &String| {
                let value = value.clone().into_bytes();
                (0, START + time, site.clone(), Some(value))
            };
            samples.push(message(2 * *sent, sample));
            labels.push(message(2 * *sent + 1, label));
            *sent += 1;
        }
        self.edge_broker.produce(&topic("labels"), &labels);
        self.edge_broker.produce(&topic("samples"), &samples);
    }

    /// The predictions of an edge.
    pub fn predictions(&self, edge: &str) -> Vec<Value> {
        let topic = format!("{}-{edge}-predictions", self.name);
        let read = self.edge_broker.read(&topic);
        read.iter().map(|read| crate::json(&read.value)).collect()
    }

    /// Asserts that a knowledge base is sound.
    pub fn assert_sound(&self, state: &str) {
        let verified = self
            .bench
            .run(&["kb", "--state", state, "verify"])
            .success();
        assert!(verified.stdout.starts_with("sound: "), "{verified:?}");
    }

    /// The deployed models: version and hash by task.
    pub fn models(&self, state: &str) -> BTreeMap<String, (Value, Value)> {
        let models = self.bench.kb_json(state, &["models"]);
        let answering = models.as_array().expect("models").iter();
        let answering = answering.filter(|model| model["answers"] == true);
        answering
            .map(|model| {
                let task = model["task"].as_str().expect("a task").to_string();
                let hash = model["trained"]["hash"].clone();
                (task, (model["version"].clone(), hash))
            })
            .collect()
    }

    /// Waits until the cloud has taken in `samples` samples of an edge.
    pub fn wait_for_samples(&self, edge: &str, samples: usize) {
        self.wait_until(
            &format!("the cloud has {samples} samples of {edge}"),
            || self.status("cloud")["edges"][edge]["samples"] == samples,
        );
    }

    /// Waits until an edge has all of the cloud's models, while the cloud trains none.
    pub fn wait_for_knowledge(&self, edge: &str) {
        self.wait_until(&format!("{edge} follows"), || {
            let (cloud, edge) = (self.status("cloud"), self.status(edge));
            let known = cloud["revisions"].as_object();
            cloud["trainings"] == 0
                && known.is_some_and(|known| !known.is_empty())
                && cloud["revisions"] == edge["revisions"]
        });
    }

    /// Waits until an edge has predicted, or bootstrapped from, `samples` samples.
    pub fn wait_for_answers(&self, edge: &str, samples: usize) {
        self.wait_until(&format!("{edge} is through {samples} samples"), || {
            self.status(edge)["commit"]["samples"] == samples
        });
    }

    /// Asserts that an edge has predicted `count` samples, each once.
    pub fn assert_answered(&self, edge: &str, count: usize) {
        let predictions = self.predictions(edge);
        assert_eq!(predictions.len(), count, "{edge}");
        let ids = predictions.iter().map(|prediction| &prediction["id"]);
        let ids: BTreeSet<String> = ids.map(ToString::to_string).collect();
        assert_eq!(ids.len(), count, "{edge}");
    }
}

/// A running cloud or edge, killed when dropped.
pub struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its exit status, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child")
    }

    /// Makes it read a part of its config again.
    pub fn hang_up(&self) {
        signal(self.child.id(), "HUP");
    }

    /// Stops it with a signal and waits for its end.
    pub fn stop(mut self) {
        signal(self.child.id(), "TERM");
        let status = self.child.wait().expect("a child");
        // It does not wait for long for a broker that has too much to do.
        let said = std::fs::read_to_string(&self.log).expect("a log");
        let is_in_order = status.success() || said.contains("was told to stop");
        assert!(is_in_order, "{status}: {said}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Fleet {
    /// Waits until `holds` is true; panics with everybody's status if it never is.
    #[track_caller]
    pub fn wait_until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let began = Instant::now();
        while !holds() {
            if began.elapsed() > PATIENCE {
                for name in self.edges.iter().map(String::as_str).chain(["cloud"]) {
                    eprintln!("{name}: {:#}\n{}", self.status(name), self.log(name));
                    let tables = ["stages", "models"].map(|table| {
                        let shown = self.bench.run(&["kb", "--state", name, table]);
                        shown.stdout
                    });
                    eprintln!("{}", tables.concat());
                }
                panic!("waited in vain: {what}");
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        // It shows where a slow test waits.
        eprintln!("{:5.1} s until {what}", began.elapsed().as_secs_f64());
    }
}

/// The parts of a config that clouds and edges share: columns, training and epochs.
pub fn common_config() -> String {
    format!(
        "{}{}epoch: {{records: 50, tick_ms: 5}}\n",
        stream::SCHEMA,
        stream::TRAINING
    )
}
