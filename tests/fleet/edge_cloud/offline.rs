//! The link is cut in the middle of the stream: nothing is lost or doubled, and the cloud ends with
//! the same knowledge.

use std::collections::BTreeMap;
use std::time::Duration;

use support::fleet::{Fleet, Running, common_config};
use support::stream::{self, Sample};

use crate::fleet::store::{assert_same, content};

const EDGES: [&str; 3] = ["north", "south", "west"];
/// Number of samples that edges share before they have models, and of these the bootstrap's: the
/// cloud waits for each edge in turn, and an edge without models gives no more.
const GIVEN: usize = 900;
const BOOTSTRAP: usize = 800;
const EPOCH: usize = 50;
/// Number of samples in each third of what follows.
const THIRD: usize = 600;

/// Splits a stream by edge.
fn split(samples: &[Sample]) -> BTreeMap<&'static str, Vec<Sample>> {
    let mut parts: BTreeMap<_, Vec<_>> = EDGES.iter().map(|edge| (*edge, Vec::new())).collect();
    for sample in samples {
        let site: usize = sample.site[1..].parse().expect("a number");
        let part = parts.get_mut(EDGES[site % 3]).expect("an edge");
        part.push(sample.clone());
    }
    parts
}

/// The fleet while it works through the stream.
struct Story {
    fleet: Fleet,
    running: BTreeMap<&'static str, Running>,
    /// Number of samples given to each edge after the bootstrap.
    given: BTreeMap<&'static str, usize>,
    bootstrapped: BTreeMap<&'static str, usize>,
}

impl Story {
    fn begin(name: &str, samples: &[Sample]) -> Story {
        let fleet = Fleet::with_own_link(name, &EDGES);
        let common = common_config();
        let cloud = format!("{common}triggers: {{when: ['new_samples >= 400']}}\n");
        fleet.cloud_config("replay", BOOTSTRAP, &cloud);
        let parts = split(&samples[..GIVEN]);
        for (edge, part) in &parts {
            fleet.edge_config(edge, part.len(), "samples: raw", &common);
            fleet.produce(edge, part);
        }
        let running = EDGES.iter().chain(&["cloud"]);
        let story = Story {
            running: running.map(|name| (*name, fleet.start(name))).collect(),
            bootstrapped: parts
                .iter()
                .map(|(edge, part)| (*edge, part.len()))
                .collect(),
            given: BTreeMap::new(),
            fleet,
        };
        for edge in EDGES {
            story.fleet.wait_for_knowledge(edge);
        }
        story
    }

    /// Gives each edge its samples of a part of the stream, and waits for the predictions.
    fn give(&mut self, samples: &[Sample]) {
        let parts = split(samples);
        for (edge, part) in &parts {
            self.fleet.produce(edge, part);
            *self.given.entry(edge).or_default() += part.len();
        }
        for (edge, given) in &self.given {
            self.fleet
                .wait_for_answers(edge, self.bootstrapped[edge] + given);
        }
    }

    /// Waits until all samples have arrived in the cloud.
    fn deliver(&self) {
        for edge in EDGES {
            let shared = self.bootstrapped[edge] + self.given[edge];
            self.fleet.wait_until(&format!("{edge} has sent all"), || {
                let status = self.fleet.status(edge);
                status["outbox"]["waiting"] == 0 && status["commit"]["samples"] == shared
            });
        }
    }

    /// Waits until the cloud has taken in all it can: up to where the first edge has no more, in
    /// whole epochs.
    fn digest(&self, samples: &[Sample]) {
        let last = EDGES.iter().map(|edge| {
            let of = |sample: &Sample| split(std::slice::from_ref(sample))[edge].len() == 1;
            samples.iter().rposition(of).expect("samples")
        });
        let known = last.min().expect("edges") + 1;
        let whole = BOOTSTRAP + (known - BOOTSTRAP) / EPOCH * EPOCH;
        self.fleet
            .wait_until(&format!("the cloud has {whole} samples"), || {
                self.fleet.status("cloud")["commit"]["samples"] == whole
            });
    }

    fn stop(&mut self, name: &'static str) {
        self.running.remove(name).expect("it runs").stop();
    }

    fn kill(&mut self, name: &'static str) {
        drop(self.running.remove(name));
    }

    fn start(&mut self, name: &'static str) {
        self.running.insert(name, self.fleet.start(name));
    }

    /// Stops all, and asserts that each edge predicted each sample once.
    fn end(mut self) -> Fleet {
        for name in EDGES.iter().chain(&["cloud"]) {
            self.stop(name);
            self.fleet.assert_sound(name);
        }
        for (edge, given) in &self.given {
            self.fleet.assert_answered(edge, *given);
        }
        self.fleet
    }
}

#[test]
fn cut_link_changes_nothing_in_the_end() {
    let samples = &stream::samples(61, 2 * (GIVEN + 3 * THIRD), 0.0)[..GIVEN + 3 * THIRD];
    let third = |number: usize| {
        let start = GIVEN + number * THIRD;
        &samples[start..start + THIRD]
    };

    let mut calm = Story::begin("calm", samples);
    for number in 0..3 {
        calm.give(third(number));
        calm.deliver();
        calm.digest(&samples[..GIVEN + (number + 1) * THIRD]);
    }
    let calm = calm.end();

    let mut story = Story::begin("cut", samples);
    // The cloud is stopped for the second half of the first third, and catches up later.
    let (before, backlog) = third(0).split_at(THIRD / 2);
    story.give(before);
    story.deliver();
    story.stop("cloud");
    let revisions = story.fleet.status("cloud")["revisions"].clone();
    story.give(backlog);
    story.deliver();
    story.fleet.proxy.cut();
    // It publishes while no edge is connected, and its broker restarts.
    story.start("cloud");
    story.digest(&samples[..GIVEN + THIRD]);
    assert_ne!(story.fleet.status("cloud")["revisions"], revisions);
    story.fleet.cloud.crash(Duration::from_secs(1));
    let parts: Vec<_> = third(1).chunks(THIRD / 3).collect();
    story.give(parts[0]);
    // Edges are killed, one of them twice, and go on alone.
    story.kill("north");
    story.kill("south");
    story.start("north");
    story.start("south");
    story.give(parts[1]);
    story.kill("north");
    story.start("north");
    story.give(parts[2]);
    for edge in EDGES {
        let status = story.fleet.status(edge);
        assert_eq!(status["link"]["reached"], false, "{status}");
        assert_eq!(status["revisions"], revisions, "{status}");
        // The last labels may come just after their samples.
        let all = split(third(1))[edge].len();
        story.fleet.wait_until("all waits in the outbox", || {
            story.fleet.status(edge)["outbox"]["samples"] == all
        });
    }
    story.fleet.proxy.heal();
    story.deliver();
    story.digest(&samples[..GIVEN + 2 * THIRD]);
    for edge in EDGES {
        story.fleet.wait_for_knowledge(edge);
    }
    // Edges that are killed while changes are in flight send them again.
    for part in third(2).chunks(THIRD / 3) {
        story.give(part);
        for edge in EDGES {
            story.kill(edge);
            story.start(edge);
        }
    }
    story.deliver();
    story.digest(samples);
    let cut = story.end();

    let of = |fleet: &Fleet| content(&fleet.bench.path("cloud"));
    let (calm, cut) = (of(&calm), of(&cut));
    assert_same(&calm, &cut);
    assert!(calm["models"].len() > 5 && calm["samples"].len() > 500);
}
