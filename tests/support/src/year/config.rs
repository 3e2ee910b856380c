//! The configs of the fleet.

use crate::fleet::Fleet;
use crate::stream;

/// The edges. Each has two sites, one of each season.
pub const EDGES: [&str; 3] = ["north", "south", "west"];
/// The edge whose results go to files; those of the others go to topics.
pub const FILES: &str = "west";
/// The edge that trains models of its own too.
pub const TRAINS: &str = "north";
/// The edge that has sites whose tasks have one number.
pub const COLLIDES: &str = "west";
/// Samples of the bootstrap of each edge.
pub const BOOTSTRAP: usize = 120;
/// How much is sent, and how often models are trained.
#[derive(Clone, Copy)]
pub struct Pace {
    /// Greatest number of samples of an edge in a burst.
    pub burst: u64,
    /// Number of new samples of a task after which it is trained.
    new_samples: usize,
}

impl Pace {
    /// The pace of a year of so many seconds: thousands of trainings in an hour, few in a test.
    pub fn of(seconds: u64) -> Pace {
        let (burst, new_samples) = if seconds == 0 { (8, 40) } else { (20, 15) };
        Pace { burst, new_samples }
    }
}

/// Samples of the bootstrap of the cloud.
const CLOUD_BOOTSTRAP: usize = 300;

/// What all configs have: small models, trained at every opportunity.
fn common(pace: Pace) -> String {
    let new_samples = pace.new_samples;
    format!(
        "{}memory: {{samples_per_task: 100, recent_per_task: 50}}
inference: {{neighbours: 16}}
training:
  min_samples: 30
  min_new_samples: 10
  candidates: [scratch, donor]
  trees: {{rounds: 2, max_depth: 2}}
triggers: {{when: ['new_samples >= {new_samples}', drift], window: 100}}
epoch: {{records: 100, tick_ms: 20}}
",
        stream::SCHEMA
    )
}

/// Lets clients come back soon after an outage.
const SOON: &str = "options: {reconnect.backoff.max.ms: 500}";
/// The topics of the link.
const LINK: &str = "changes: year-changes, knowledge: year-knowledge";

/// The full name of a topic of an edge.
pub fn topic(edge: &str, what: &str) -> String {
    format!("year-{edge}-{what}")
}

/// Writes the config of the cloud, with these entries of `link.edges`.
pub fn write_cloud(fleet: &Fleet, pace: Pace, edges: &str) {
    let config = format!(
        "name: year-cloud
mode: live
role: cloud
link: {{kafka: {{brokers: '{}', {SOON}}}, {LINK}, sign: cloud.pem, edges: {{{edges}}}}}
source:
  edges: {{on_gone: earliest}}
bootstrap:
  records: {CLOUD_BOOTSTRAP}
{}",
        fleet.cloud.address,
        common(pace)
    );
    fleet.bench.write("cloud.yaml", config);
}

/// Writes the config of an edge that signs with a key.
pub fn write_edge(fleet: &Fleet, pace: Pace, edge: &str, key: &str) {
    let (link, share) = match edge == TRAINS {
        true => (", train: true", "samples: raw, models: true"),
        false => ("", "samples: raw"),
    };
    let outputs = match edge == FILES {
        true => format!("predictions: {{path: {edge}.jsonl}}\n"),
        false => format!(
            "predictions:\n  kafka: {{topic: {}}}\ndead_letters:\n  kafka: {{topic: {}}}\n",
            topic(edge, "predictions"),
            topic(edge, "dead-letters")
        ),
    };
    let config = format!(
        "name: {edge}
mode: live
role: edge
link: {{kafka: {{brokers: '127.0.0.1:{port}', {SOON}}}, {LINK}, verify: cloud-public.pem, \
         sign: {key}.pem{link}}}
share: {{{share}}}
kafka: {{brokers: '{address}', group: year-{edge}, {SOON}}}
source:
  kafka: {{topic: {samples}, on_gone: earliest}}
labels:
  kafka: {{topic: {labels}}}
  wait: {{records: 5000}}
bootstrap: {{records: {BOOTSTRAP}}}
commit: {{interval_ms: 50}}
{outputs}{common}",
        port = fleet.proxy.port,
        address = fleet.cloud.address,
        samples = topic(edge, "samples"),
        labels = topic(edge, "labels"),
        common = common(pace),
    );
    fleet.bench.write(&format!("{edge}.yaml"), config);
}
