//! The input of the pipeline under test: samples, labels on a separate topic, and bad records of
//! both.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use support::kafka::{Broker, Message, PARTITIONS, now};
use support::stream::{self, Chance, Endless, Sample};

use super::Topics;

/// Number of samples after which the concept changes, so that new models are better.
const TURN: usize = 1500;

/// Produces to the topics of a pipeline.
pub struct Feeder {
    broker: Arc<Broker>,
    topics: Topics,
    stream: Endless,
    chance: Chance,
}

impl Feeder {
    pub fn new(broker: &Arc<Broker>, topics: &Topics, seed: u64) -> Feeder {
        Feeder {
            broker: broker.clone(),
            topics: topics.clone(),
            stream: Endless::new(seed, TURN, 0.05),
            chance: Chance::new(seed + 1),
        }
    }

    /// Extends the stream by `count` samples; one in twenty never gets a label.
    pub fn samples(&mut self, count: usize) -> Vec<Sample> {
        self.stream.samples(count)
    }

    /// Produces samples without labels, one a millisecond from `time` on, with bad ones among them.
    pub fn send_samples(&mut self, samples: &[Sample], time: i64, with_bad: bool) {
        let mut messages = Vec::new();
        for (sample, time) in samples.iter().zip(time..) {
            let bare = Sample {
                label: None,
                ..sample.clone()
            };
            messages.push(message(sample, time, bare.json()));
            if with_bad && self.chance.below(30) == 0 {
                let value = match self.chance.below(5) {
                    0 => Some(b"{\"id\": \"torn".to_vec()),
                    1 => Some(b"\x00\xff\xfe".to_vec()),
                    2 => None,
                    3 => Some(
                        bare.json()
                            .replace("\"a\":", "\"a\": \"warm\", \"x\":")
                            .into_bytes(),
                    ),
                    _ => Some(bare.json().replace("\"id\":", "\"name\":").into_bytes()),
                };
                let partition = self.chance.below(PARTITIONS as u64) as i32;
                messages.push((partition, time, format!("bad {}", sample.id), value));
            }
        }
        self.broker.produce(&self.topics.samples, &messages);
    }

    /// Produces the labels of samples, one a millisecond from `time` on, with bad ones among them.
    pub fn send_labels(&mut self, samples: &[Sample], time: i64, with_bad: bool) {
        let mut messages = Vec::new();
        for (sample, time) in samples.iter().zip(time..) {
            if let Some(label) = sample.label {
                let class = stream::CLASSES[label];
                let value = serde_json::json!({"id": sample.id, "label": class});
                messages.push(message(sample, time, value.to_string()));
            }
            if with_bad && self.chance.below(60) == 0 {
                let value = match self.chance.below(3) {
                    0 => Some(b"low".to_vec()),
                    1 => None,
                    _ => Some(
                        format!("{{\"id\": \"{}\", \"label\": \"lukewarm\"}}", sample.id).into(),
                    ),
                };
                messages.push((sample_partition(sample), time, "bad".to_string(), value));
            }
        }
        self.broker.produce(&self.topics.labels, &messages);
    }

    /// Produces the bootstrap: good samples and labels, older than all later ones.
    pub fn send_bootstrap(&mut self, count: usize) {
        let samples = self.samples(count);
        let time = now() - count as i64 - 100;
        self.send_samples(&samples, time, false);
        self.send_labels(&samples, time + 10, false);
    }

    /// Produces bursts until stopped, then the labels still due.
    fn run(mut self, stop: &AtomicBool) {
        let mut late: Vec<Sample> = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let count = 10 + self.chance.below(120) as usize;
            let burst = self.samples(count);
            // Most labels follow their samples, some precede them.
            let early = self.chance.below(5) == 0;
            if early {
                self.send_labels(&burst, now(), true);
            }
            self.send_samples(&burst, now(), true);
            let due = std::mem::take(&mut late);
            self.send_labels(&due, now(), true);
            if !early {
                late = burst;
            }
            std::thread::sleep(Duration::from_millis(50 + self.chance.below(300)));
        }
        self.send_labels(&late, now(), false);
    }

    /// Produces bursts on a thread of its own.
    pub fn start(self) -> Feeding {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = stop.clone();
        let thread = std::thread::spawn(move || self.run(&seen));
        Feeding {
            stop,
            thread: Some(thread),
        }
    }
}

/// A running feeder, stopped when dropped.
pub struct Feeding {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Feeding {
    /// Stops it after the current burst and its labels.
    pub fn finish(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("a thread");
        thread.join().expect("the feeder is done");
    }
}

impl Drop for Feeding {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The partition of a site's samples and labels.
fn sample_partition(sample: &Sample) -> i32 {
    sample.site[1..].parse::<i32>().expect("a number") % PARTITIONS
}

fn message(sample: &Sample, time: i64, value: String) -> Message {
    let key = sample.site.clone();
    (
        sample_partition(sample),
        time,
        key,
        Some(value.into_bytes()),
    )
}
