//! A hundred edges and a cloud in one process: their real commits, outboxes, envelopes and merge,
//! over a simulated link. Messages come late, twice, or long after; acknowledgements get lost;
//! links are cut; processes are killed. In the end all know what they should, as if nothing had
//! happened.
//!
//! A failing seed can be repeated:
//! `PERENNIAL_SEED=7 cargo test --release --test program simulation`.

mod cloud;
mod copies;
mod edge;
mod large;
mod net;

use std::path::Path;

use perennial::config::{Settings, load};
use perennial_connectors::source::edges::EdgeRights;
use support::stream::{Chance, SCHEMA};

use crate::fleet::store::{Content, assert_same, content};

use cloud::Cloud;
use edge::Edge;
use net::Net;

const EDGES: usize = 100;
/// Samples of each edge.
const SAMPLES: usize = 24;

/// The faults of a fleet.
#[derive(Clone, Copy, PartialEq)]
enum Weather {
    /// No faults.
    Calm,
    /// All faults.
    Rough,
}

/// The settings of an edge with this policy and outbox.
pub fn settings(folder: &Path, name: &str, share: &str, outbox: &str) -> Settings {
    let file = folder.join(format!("{name}.yaml"));
    let config = format!(
        "name: {name}\nmode: live\nrole: edge\nshare: {{{share}}}\nlink: {{kafka: {{brokers: 'x:1'}}, verify: a, sign: b, \
         outbox: {{{outbox}}}}}\nsource: {{path: none.csv}}\n{SCHEMA}"
    );
    std::fs::write(&file, config).expect("a config");
    Settings::try_from(load(&file, &[]).expect("a config")).expect("a config that makes sense")
}

/// A fleet, and the random numbers that drive it.
struct World {
    chance: Chance,
    weather: Weather,
    net: Net,
    edges: Vec<Edge>,
    cloud: Cloud,
    folder: tempfile::TempDir,
}

impl World {
    fn new(seed: u64, edges: usize, weather: Weather, outbox: &str) -> World {
        let folder = tempfile::tempdir().expect("a folder");
        let mut all = Vec::new();
        for number in 0..edges {
            let name = format!("edge-{number}");
            let settings = settings(folder.path(), &name, "samples: raw", outbox);
            all.push(Edge::new(number, edges, settings, folder.path()));
        }
        let rights = all
            .iter()
            .map(|edge: &Edge| (edge.name.clone(), EdgeRights::all(edge.public())));
        let rights: Vec<(String, EdgeRights)> = rights.collect();
        World {
            cloud: Cloud::new(folder.path(), rights.into_iter().collect()),
            chance: Chance::new(seed),
            weather,
            net: Net::default(),
            edges: all,
            folder,
        }
    }

    /// One random event.
    fn step(&mut self) {
        let rough = self.weather == Weather::Rough;
        let chance = &mut self.chance;
        let number = chance.below(self.edges.len() as u64) as usize;
        let edge = &mut self.edges[number];
        let net = &mut self.net;
        match chance.below(20) {
            0..8 => edge.work(1 + chance.below(4) as usize, SAMPLES),
            8..13 => edge.send(net, chance, rough),
            13..15 => edge.follow(net, chance, rough),
            15 if rough => edge.is_cut = !edge.is_cut,
            16 if rough => edge.crash(chance),
            17 if rough && chance.below(10) == 0 => self.cloud.crash(),
            17 => net.deliver_late(chance),
            18 => self.cloud.publish(net, chance, rough),
            _ => self.cloud.work(net, 1 + chance.below(30) as usize),
        }
    }

    /// Lets all messages be sent, received and applied.
    fn settle(&mut self) {
        self.weather = Weather::Calm;
        for edge in &mut self.edges {
            edge.is_cut = false;
            edge.work(SAMPLES, SAMPLES);
            edge.send(&mut self.net, &mut self.chance, false);
        }
        while self.net.is_late() {
            self.net.deliver_late(&mut self.chance);
        }
        self.cloud.work(&self.net, usize::MAX);
        self.cloud.publish(&mut self.net, &mut self.chance, false);
        for edge in &mut self.edges {
            // Changes that arrived leave the outbox with the next commit.
            edge.settle();
            edge.follow_all(&self.net);
        }
    }

    /// Runs to the end; returns the cloud's knowledge.
    fn run(mut self) -> Content {
        while self.edges.iter().any(|edge| edge.given < SAMPLES) {
            self.step();
        }
        for _ in 0..200 {
            self.step();
        }
        self.settle();
        let samples = self.cloud.samples();
        for edge in &self.edges {
            let outbox = edge.outbox();
            assert_eq!(
                (outbox.waiting, outbox.shed_samples),
                (0, 0),
                "{}",
                edge.name
            );
            assert_eq!(edge.revisions(), self.cloud.revisions(), "{}", edge.name);
            assert_eq!(edge.deployed(), self.cloud.deployed(), "{}", edge.name);
            edge.assert_sound();
            let history = self.cloud.history(&edge.name);
            let wrong = (
                history.forks,
                history.renewals,
                history.lost,
                history.repeated,
            );
            assert_eq!(wrong, (0, 0, 0, 0), "{}: {history:?}", edge.name);
        }
        self.cloud.assert_sound();
        // All but less than an epoch, and samples that wait for later ones of other edges.
        let all = (self.edges.len() * SAMPLES) as u64;
        assert!(
            samples > all - cloud::EPOCH as u64 - self.edges.len() as u64,
            "{samples}"
        );
        let path = self.cloud.close();
        content(&path)
    }
}

#[test]
fn faults_do_not_change_the_final_knowledge() {
    let seeds = match std::env::var("PERENNIAL_SEED") {
        Ok(seed) => vec![seed.parse().expect("PERENNIAL_SEED is a number")],
        Err(_) => vec![1, 2],
    };
    let calm = World::new(0, EDGES, Weather::Calm, "").run();
    for seed in seeds {
        eprintln!("seed {seed}");
        let rough = World::new(seed, EDGES, Weather::Rough, "").run();
        assert_same(&calm, &rough);
    }
}

#[test]
fn full_outbox_sheds_and_counts() {
    for (shed, is_kept) in [("oldest", false), ("newest", true)] {
        let outbox = format!("bytes: 400, shed: {shed}");
        let mut world = World::new(3, 1, Weather::Calm, &outbox);
        let edge = &mut world.edges[0];
        edge.is_cut = true;
        for _ in 0..SAMPLES / 2 {
            edge.work(2, SAMPLES);
        }
        let outbox = edge.outbox();
        assert!(outbox.bytes <= 400 && outbox.samples > 0, "{outbox:?}");
        assert_eq!(outbox.samples + outbox.shed_samples, SAMPLES as u64);
        // Such a small outbox keeps one change a sample: the first ones or the last ones.
        assert_eq!(outbox.waiting, outbox.samples);
        assert_eq!(outbox.shed, outbox.shed_samples);
        let shed = edge.shed();
        let kept = outbox.waiting as usize;
        if is_kept {
            assert_eq!(shed, (kept..SAMPLES).collect::<Vec<_>>())
        } else {
            assert_eq!(shed, (0..SAMPLES - kept).collect::<Vec<_>>())
        }
        edge.crash(&mut world.chance);
        assert_eq!(edge.outbox(), outbox);
        world.settle();
        let progress = world.cloud.progress("edge-0");
        assert_eq!(progress.samples, outbox.samples);
        assert_eq!(progress.shed, outbox.shed_samples);
    }
}

#[test]
fn stricter_policy_sheds_waiting_changes() {
    for (share, may_leave) in [
        ("samples: raw, statistics: true", true),
        ("samples: redacted, redact: [c]", false),
        ("statistics: true", false),
    ] {
        let mut world = World::new(4, 1, Weather::Calm, "");
        let settings = settings(world.folder.path(), "edge-0", share, "");
        let edge = &mut world.edges[0];
        edge.work(6, SAMPLES);
        assert_eq!(edge.outbox().samples, 6);
        edge.start_with(settings);
        edge.settle();
        let (outbox, shed) = (edge.outbox(), edge.shed().len() as u64);
        let left = if may_leave { 6 } else { 0 };
        assert_eq!((outbox.samples, outbox.shed_samples), (left, 6 - left));
        assert_eq!((outbox.waiting == 0, shed), (!may_leave, outbox.shed));
        world.settle();
        // The cloud has counted it.
        assert_eq!(world.cloud.progress("edge-0").shed, 6 - left);
    }
}
