//! A real broker for tests, and a plain producer and consumer that share no code with the pipeline.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_executor::block_on;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers, Message as _};
use rdkafka::producer::{BaseProducer, Producer as _};
use rdkafka::{Offset, TopicPartitionList};

use crate::checkout;
use crate::process::signal;
pub use crate::produce::{Message, Producer};
use crate::proxy::Proxy;

/// Time limit of each wait.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Number of partitions of a topic that is created by its first message.
pub const PARTITIONS: i32 = 4;

/// Time after which a separate controller takes a silent broker for dead.
pub const SESSION: Duration = Duration::from_secs(6);

/// A broker, killed when dropped.
pub struct Broker {
    process: Mutex<Child>,
    /// A controller that outlives the broker's crashes, unless the broker is its own.
    controller: Option<Controller>,
    folder: tempfile::TempDir,
    /// Settings beyond those of every test broker.
    settings: Vec<String>,
    /// Settings of the tests' clients beyond its address.
    options: Vec<(String, String)>,
    /// Its address, `127.0.0.1:PORT`.
    pub address: String,
}

/// A controller, killed when dropped.
struct Controller {
    process: Child,
    /// Its data, removed at the end.
    _folder: tempfile::TempDir,
    /// Its address as brokers expect it.
    voter: String,
}

impl Controller {
    fn start() -> Controller {
        let folder = tempfile::tempdir().expect("a folder");
        let session = format!("broker.session.timeout.ms={}", SESSION.as_millis());
        let mut command = script();
        command.args(["controller", "--dir"]).arg(folder.path());
        let (process, voter) = announced(command.arg(session), "controller=");
        Controller {
            process,
            _folder: folder,
            voter,
        }
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Milliseconds since 1970.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("a time after 1970").as_millis() as i64
}

/// A message as it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Read {
    pub partition: i32,
    pub offset: i64,
    pub timestamp: i64,
    pub key: Option<Vec<u8>>,
    pub value: Vec<u8>,
    pub headers: BTreeMap<String, String>,
}

impl Broker {
    /// The broker that the tests of a process share; it ends with the last of them that runs.
    pub fn shared() -> Arc<Broker> {
        static SHARED: Mutex<Weak<Broker>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(broker) = shared.upgrade() {
            return broker;
        }
        let broker = Arc::new(Broker::start());
        *shared = Arc::downgrade(&broker);
        broker
    }

    /// Starts a broker and waits until it answers.
    pub fn start() -> Broker {
        Broker::start_with(&[])
    }

    /// Starts a broker with settings such as `a.name=value`.
    pub fn start_with(settings: &[&str]) -> Broker {
        Broker::start_under(None, settings)
    }

    /// Starts a broker with a separate controller, as in a cluster. A broker that is its own
    /// controller comes back from a crash as the leader that it was, until it learns that it is a
    /// new one; transactions that end meanwhile stay open in their partitions, and end with the
    /// next one (Kafka 4.3: "these partitions are likely deleted already and hence can be
    /// skipped").
    pub fn start_in_cluster(settings: &[&str]) -> Broker {
        Broker::start_under(Some(Controller::start()), settings)
    }

    /// Starts a broker with a second address that clients reach through a proxy only.
    pub fn start_behind(proxy: &Proxy) -> Broker {
        Broker::start_with(&[&proxy.link()])
    }

    fn start_under(controller: Option<Controller>, settings: &[&str]) -> Broker {
        let folder = tempfile::tempdir().expect("a folder");
        let settings: Vec<String> = settings.iter().map(ToString::to_string).collect();
        let (process, address) = launch(folder.path(), "0", controller.as_ref(), &settings);
        Broker {
            process: Mutex::new(process),
            controller,
            folder,
            settings,
            options: Vec::new(),
            address,
        }
    }

    /// Adds settings of librdkafka to the tests' clients.
    pub fn for_clients(mut self, options: &[(&str, &str)]) -> Broker {
        let options = options
            .iter()
            .map(|(key, value)| (key.to_string(), value.to_string()));
        self.options = options.collect();
        self
    }

    /// Kills the broker, and starts it again with the same data after a pause. A separate
    /// controller needs the pause to notice.
    pub fn crash(&self, pause: Duration) {
        assert!(self.controller.is_none() || pause > SESSION, "{pause:?}");
        let mut process = self.process.lock().expect("the broker");
        process.kill().expect("a kill");
        process.wait().expect("an end");
        std::thread::sleep(pause);
        let port = self.address.rsplit(':').next().expect("a port");
        let controller = self.controller.as_ref();
        (*process, _) = launch(self.folder.path(), port, controller, &self.settings);
    }

    /// Creates a topic with a number of partitions and settings (`key=value`).
    pub fn create_topic(&self, topic: &str, partitions: i32, settings: &[&str]) {
        let admin: AdminClient<DefaultClientContext> = self.client().create().expect("a client");
        let mut wanted = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        for setting in settings {
            let (key, value) = setting.split_once('=').expect("key=value");
            wanted = wanted.set(key, value);
        }
        let options = AdminOptions::new().request_timeout(Some(PATIENCE));
        let made = block_on(admin.create_topics([&wanted], &options)).expect("an answer");
        assert!(made.iter().all(Result::is_ok), "{made:?}");
        let began = Instant::now();
        while !self.topics().contains(topic) {
            assert!(began.elapsed() < PATIENCE, "{topic} is not there");
        }
    }

    /// Deletes a topic, and waits until it is gone.
    pub fn delete_topic(&self, topic: &str) {
        let admin: AdminClient<DefaultClientContext> = self.client().create().expect("a client");
        let options = AdminOptions::new().request_timeout(Some(PATIENCE));
        let deleted = block_on(admin.delete_topics(&[topic], &options)).expect("an answer");
        assert!(deleted.iter().all(Result::is_ok), "{deleted:?}");
        let began = Instant::now();
        while self.topics().contains(topic) {
            assert!(began.elapsed() < PATIENCE, "{topic} is still there");
        }
    }

    /// Deletes a consumer group, as Kafka does after its retention.
    pub fn delete_group(&self, group: &str) {
        let admin: AdminClient<DefaultClientContext> = self.client().create().expect("a client");
        let options = AdminOptions::new().request_timeout(Some(PATIENCE));
        let deleted = block_on(admin.delete_groups(&[group], &options)).expect("an answer");
        assert!(deleted.iter().all(Result::is_ok), "{deleted:?}");
    }

    /// Deletes all records of a topic, as Kafka does after their retention.
    pub fn expire(&self, topic: &str) {
        let client = self.client();
        let admin: AdminClient<DefaultClientContext> = client.create().expect("a client");
        let producer: BaseProducer = client.create().expect("a client");
        let metadata = producer.client().fetch_metadata(Some(topic), PATIENCE);
        let metadata = metadata.expect("an answer");
        let mut list = TopicPartitionList::new();
        for partition in metadata.topics()[0].partitions() {
            list.add_partition_offset(topic, partition.id(), Offset::End)
                .expect("an offset");
        }
        let options = AdminOptions::new().request_timeout(Some(PATIENCE));
        let deleted = block_on(admin.delete_records(&list, &options)).expect("an answer");
        let errors = deleted
            .elements()
            .iter()
            .any(|place| place.error().is_err());
        assert!(!errors, "{deleted:?}");
    }

    /// Halts the broker for a while: it answers nobody, and then finds that time has passed.
    pub fn pause(&self, pause: Duration) {
        let process = self.process.lock().expect("the broker");
        signal(process.id(), "STOP");
        std::thread::sleep(pause);
        signal(process.id(), "CONT");
    }

    /// Whether its log contains these words.
    pub fn has_logged(&self, words: &str) -> bool {
        let log = std::fs::read(self.folder.path().join("kafka.log")).expect("a log");
        String::from_utf8_lossy(&log).contains(words)
    }

    /// Where a group stands in a topic.
    pub fn position(&self, group: &str, topic: &str) -> Position {
        let mut client = self.client();
        client.set("group.id", group);
        Position {
            consumer: client.create().expect("a consumer"),
            topic: topic.to_string(),
        }
    }

    /// Whether messages of a topic wait for the end of their transaction.
    pub fn is_in_transaction(&self, topic: &str) -> bool {
        let ends = ["read_committed", "read_uncommitted"].map(|level| {
            let mut client = self.client();
            client.set("group.id", "tests");
            client.set("isolation.level", level);
            let position = Position {
                consumer: client.create().expect("a consumer"),
                topic: topic.to_string(),
            };
            position.end()
        });
        // A new topic has its leaders a little later.
        matches!(ends, [Some(committed), Some(all)] if committed < all)
    }

    pub(crate) fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.address)
            .set("reconnect.backoff.max.ms", "500");
        for (key, value) in &self.options {
            config.set(key, value);
        }
        config
    }

    /// The names of all topics, without Kafka's own.
    pub fn topics(&self) -> BTreeSet<String> {
        let client: BaseProducer = self.client().create().expect("a client");
        let metadata = client.client().fetch_metadata(None, PATIENCE);
        let metadata = metadata.expect("an answer");
        let topics = metadata.topics().iter();
        let names = topics.map(|topic| topic.name().to_string());
        names.filter(|name| !name.starts_with("__")).collect()
    }

    /// All committed messages of a topic.
    pub fn read(&self, topic: &str) -> Vec<Read> {
        let consumer: BaseConsumer = self
            .client()
            .set("group.id", "tests")
            .set("isolation.level", "read_committed")
            .set("enable.partition.eof", "true")
            .set("enable.auto.commit", "false")
            .create()
            .expect("a consumer");
        let metadata = consumer.fetch_metadata(Some(topic), PATIENCE);
        let metadata = metadata.expect("an answer");
        let mut assignment = TopicPartitionList::new();
        for partition in metadata.topics()[0].partitions() {
            assignment
                .add_partition_offset(topic, partition.id(), Offset::Beginning)
                .expect("an offset");
        }
        consumer.assign(&assignment).expect("an assignment");
        // A partition can end more than once: at an open transaction, and after it.
        let (mut messages, mut ended) = (Vec::new(), BTreeSet::new());
        let (began, mut error) = (Instant::now(), None);
        while ended.len() < assignment.count() {
            assert!(
                began.elapsed() < PATIENCE,
                "{topic} cannot be read but for {ended:?}: {error:?}"
            );
            match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => messages.push(owned(&message)),
                Some(Err(KafkaError::PartitionEOF(partition))) => _ = ended.insert(partition),
                Some(Err(other)) => error = Some(other),
                None => {}
            }
        }
        messages
    }
}

/// Where a group stands in a topic.
pub struct Position {
    consumer: BaseConsumer,
    topic: String,
}

impl Position {
    /// The number of messages written to the topic; none if the broker does not answer.
    pub fn end(&self) -> Option<i64> {
        let ends = (0..PARTITIONS).map(|partition| {
            let timeout = Duration::from_secs(2);
            let marks = self
                .consumer
                .fetch_watermarks(&self.topic, partition, timeout);
            marks.ok().map(|(_, end)| end)
        });
        ends.sum()
    }

    /// The number of messages the group has committed; none if the broker does not answer.
    pub fn committed(&self) -> Option<i64> {
        let mut list = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            list.add_partition(&self.topic, partition);
        }
        let list = self
            .consumer
            .committed_offsets(list, Duration::from_secs(2));
        let offsets = list
            .ok()?
            .elements()
            .iter()
            .map(|element| {
                element.error().ok()?;
                match element.offset() {
                    Offset::Offset(offset) => Some(offset),
                    _ => Some(0),
                }
            })
            .collect::<Option<Vec<i64>>>()?;
        Some(offsets.iter().sum())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = process.kill();
        let _ = process.wait();
    }
}

fn owned(message: &rdkafka::message::BorrowedMessage<'_>) -> Read {
    let mut headers = BTreeMap::new();
    for header in message.headers().iter().flat_map(|headers| headers.iter()) {
        let value = String::from_utf8_lossy(header.value.unwrap_or_default());
        let before = headers.insert(header.key.to_string(), value.into_owned());
        assert_eq!(before, None, "a header comes twice");
    }
    Read {
        partition: message.partition(),
        offset: message.offset(),
        timestamp: message.timestamp().to_millis().expect("a timestamp"),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().unwrap_or_default().to_vec(),
        headers,
    }
}

fn script() -> Command {
    let mut command = Command::new("bash");
    command.arg(checkout("scripts/kafka.sh"));
    command
}

/// Starts a node, whose first line of output is its address.
fn announced(command: &mut Command, name: &str) -> (Child, String) {
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut process = command.spawn().expect("the node starts");
    let output = process.stdout.take().expect("its output");
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line).expect("a line");
    let place = line.trim().strip_prefix(name);
    let place = place.unwrap_or_else(|| panic!("{line:?}")).to_string();
    (process, place)
}

fn launch(
    folder: &Path,
    port: &str,
    controller: Option<&Controller>,
    settings: &[String],
) -> (Child, String) {
    let mut command = script();
    command.arg("start").arg("--dir").arg(folder);
    if let Some(controller) = controller {
        command.args(["--controller", &controller.voter]);
    }
    command.args(["--port", port, "auto.create.topics.enable=true"]);
    command.args([
        &format!("num.partitions={PARTITIONS}"),
        "message.max.bytes=20000000",
        // Messages have timestamps years ago, and a broker deletes such half a minute after its
        // start.
        "log.retention.ms=-1",
    ]);
    for setting in settings {
        match setting.strip_prefix("--link=") {
            Some(link) => command.args(["--link", link]),
            None => command.arg(setting),
        };
    }
    let (process, address) = announced(&mut command, "bootstrap.servers=");
    let began = Instant::now();
    while std::net::TcpStream::connect(&address).is_err() {
        assert!(began.elapsed() < PATIENCE, "the broker does not answer");
        std::thread::sleep(Duration::from_millis(50));
    }
    let _ = std::io::stdout().flush();
    (process, address)
}
