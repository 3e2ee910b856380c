//! A pipeline on topics of its own, and a recount of its results.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::kafka::{Broker, PARTITIONS, Read};
use crate::stream::{self, Sample};
use crate::{Bench, Ended, ended};

/// Samples of the bootstrap.
pub const BOOTSTRAP: usize = 800;
/// Number of samples after which a sample's own label becomes known.
const DELAY: usize = 300;
/// The timestamp of the first message, milliseconds since 1970.
pub const START: i64 = 1_700_000_000_000;

/// Time limit for the first prediction.
const PATIENCE: Duration = Duration::from_secs(60);

/// A pipeline on topics of its own.
pub struct Pipeline {
    pub bench: Bench,
    pub broker: Arc<Broker>,
    name: String,
    labels_apart: bool,
}

impl Pipeline {
    /// Makes a pipeline whose topics begin with `name`.
    pub fn new(broker: &Arc<Broker>, name: &str, labels_apart: bool) -> Pipeline {
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
{training}triggers:
  when: ['new_samples >= 600']
epoch: {{records: 100, tick_ms: 5}}
commit: {{interval_ms: 20}}
predictions:
  kafka: {{topic: {name}-predictions}}
dead_letters:
  kafka: {{topic: {name}-dead-letters}}
",
            schema = stream::SCHEMA,
            training = stream::TRAINING,
        );
        bench.write("config.yaml", config);
        Pipeline {
            bench,
            broker: broker.clone(),
            name: name.to_string(),
            labels_apart,
        }
    }

    /// The full name of one of its topics.
    pub fn topic(&self, name: &str) -> String {
        format!("{}-{name}", self.name)
    }

    /// Produces samples over all partitions by site, one a millisecond; separate labels follow 50
    /// ms later.
    pub fn produce(&self, samples: &[Sample]) {
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

    /// Runs it to its end.
    pub fn run(&self, more: &[&str]) -> Ended {
        ended(self.command(more).output())
    }

    /// The command that runs it.
    pub fn command(&self, more: &[&str]) -> std::process::Command {
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

    /// Waits until a running pipeline has written a prediction.
    pub fn wait_for_predictions(&self) {
        let began = Instant::now();
        while self.broker.read(&self.topic("predictions")).is_empty() {
            assert!(began.elapsed() < PATIENCE, "nothing is predicted");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Checks the results of these samples against a recount: each sample after the bootstrap is
    /// predicted once, with the key, timestamp and place of its message, and the report agrees with
    /// predictions and labels.
    pub fn check(&self, samples: &[Sample]) -> Vec<Read> {
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
        // The labels of the last samples are not known yet.
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
            let value = crate::json(&prediction.value);
            assert_eq!(value["id"], crate::json(&input.value)["id"]);
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
                // A separate label may still come.
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
