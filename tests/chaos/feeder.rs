//! What the pipeline under test is fed with: samples, labels on a topic of their own, and bad records of both.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use support::kafka::{Broker, PARTITIONS};
use support::stream::{self, Chance, Sample};

use super::Topics;

type Message = (i32, i64, String, Option<Vec<u8>>);

/// Samples after which what features mean for the label turns round, so that new models are better.
const TURN: usize = 1500;

/// Produces to the topics of a pipeline.
pub struct Feeder {
    broker: Arc<Broker>,
    topics: Topics,
    chance: Chance,
    /// Samples so far.
    count: usize,
}

impl Feeder {
    pub fn new(broker: &Arc<Broker>, topics: &Topics, seed: u64) -> Feeder {
        Feeder {
            broker: broker.clone(),
            topics: topics.clone(),
            chance: Chance::new(seed),
            count: 0,
        }
    }

    /// So many samples in all; one in twenty never gets a label.
    pub fn samples(&mut self, count: usize) -> Vec<Sample> {
        let mut samples = stream::samples(self.chance.draw(), 2 * count, 0.05);
        // The two halves differ in what features mean.
        if self.count / TURN % 2 == 1 {
            samples.drain(..count);
        }
        samples.truncate(count);
        for (sample, number) in samples.iter_mut().zip(self.count..) {
            sample.id = format!("r{number}");
            sample.time = 1_700_000_000 + number as i64;
            // Multiples of a power of two: their sums are exact, in whatever order.
            let exact = |number: f64| (number * 1024.0).round() / 1024.0;
            sample.numbers = sample.numbers.map(|number| number.map(exact));
        }
        self.count += count;
        samples
    }

    /// Produces samples without their labels, the first at `time`, one a millisecond; bad ones among them.
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

    /// Produces the labels of samples, the first at `time`; bad ones among them.
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

    /// What a bootstrap needs: samples and their labels, all good and older than what is sent from now on.
    pub fn send_bootstrap(&mut self, count: usize) {
        let samples = self.samples(count);
        let time = now() - count as i64 - 100;
        self.send_samples(&samples, time, false);
        self.send_labels(&samples, time + 10, false);
    }

    /// Produces bursts, until it is told to stop; then no label that is to come is left out.
    fn run(mut self, stop: &AtomicBool) {
        let mut late: Vec<Sample> = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let count = 10 + self.chance.below(120) as usize;
            let burst = self.samples(count);
            // Most labels come after their samples, and some before.
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

/// A feeder at work, until it is dropped.
pub struct Feeding {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Feeding {
    /// Stops it when all that it began is produced.
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

/// Samples and their labels are in the partition of their site.
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

/// Milliseconds since 1970.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("a time after 1970").as_millis() as i64
}
