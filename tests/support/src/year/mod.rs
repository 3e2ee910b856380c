//! A year of a fleet in short: a cloud and three edges, real processes on a real broker, with all
//! that happens to them within a year, drawn from a seed; and a recount in the end.

mod config;
mod events;
mod feed;
mod members;
mod recount;
mod vitals;

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::fleet::Fleet;
use crate::stream::Chance;

use config::{EDGES, Pace};
use events::backups::Backups;
use events::donors::Hostile;
use events::files::Archive;
use events::keys::Keys;
use feed::Feed;
use members::{Members, names};
use vitals::Vitals;

/// The fleet, and what is known about it.
pub struct Year {
    fleet: Rc<Fleet>,
    members: Members,
    feed: Feed,
    chance: Chance,
    keys: Keys,
    archive: Archive,
    backups: Backups,
    hostile: Hostile,
    vitals: Arc<Vitals>,
    began: Instant,
    /// How long the year is, seconds; 0 if each event comes once.
    seconds: u64,
    /// Number of events so far.
    events: usize,
}

/// What a year has shown.
pub struct Outcome {
    /// Counts, for people.
    pub counts: String,
    /// The medians of memory, descriptors and start-up time in each tenth of the year.
    pub tenths: String,
    /// What has grown in the last tenth of the year, a sentence for each.
    pub grown: Vec<String>,
}

/// Lets a fleet live through a year of so many seconds, in which each event comes at least once,
/// and recounts it.
pub fn live(seed: u64, seconds: u64) -> Outcome {
    let mut year = Year::begin(seed, seconds);
    let mut deck = events::DECK.to_vec();
    loop {
        year.chance.shuffle(&mut deck);
        for (kind, event) in &deck {
            let is_over = year.began.elapsed().as_secs() >= seconds;
            if year.events >= deck.len() && is_over {
                return year.end();
            }
            let began = Instant::now();
            event(&mut year);
            year.events += 1;
            year.say(&format!("… {kind}: {:.1} s", began.elapsed().as_secs_f64()));
            let pause = year.chance.below(700);
            std::thread::sleep(Duration::from_millis(pause));
        }
    }
}

impl Year {
    fn begin(seed: u64, seconds: u64) -> Year {
        println!("PERENNIAL_YEAR_SEED={seed}");
        let mut chance = Chance::new(seed);
        let fleet = Rc::new(Fleet::of_one_broker("year", &EDGES, &[]));
        let pace = Pace::of(seconds);
        let keys = Keys::new(&fleet, pace);
        for edge in EDGES {
            config::write_edge(&fleet, pace, edge, edge);
        }
        let feed = Feed::new(&fleet.cloud, pace, &mut chance);
        let vitals = Vitals::start();
        let mut year = Year {
            members: Members::new(&fleet, &vitals),
            feed,
            chance,
            keys,
            archive: Archive::default(),
            backups: Backups::default(),
            hostile: Hostile::default(),
            vitals,
            began: Instant::now(),
            seconds,
            events: 0,
            fleet,
        };
        names().for_each(|name| year.members.start(name));
        for edge in EDGES {
            let has_model = |fleet: &Fleet| fleet.status(edge)["answering"]["base"].is_u64();
            year.members
                .wait_until(&format!("{edge} has a model"), has_model);
        }
        year.feed.start();
        year.members.go_on(&EDGES);
        year
    }

    /// Prints what happens, with the day of the year.
    fn say(&self, what: &str) {
        let part = match self.seconds {
            0 => self.events as f64 / events::DECK.len() as f64,
            seconds => self.began.elapsed().as_secs_f64() / seconds as f64,
        };
        let day = (part * 365.0).min(365.0);
        println!("day {day:>3.0}  {what}");
    }

    /// Waits for a random time up to `most` milliseconds.
    fn rest(&mut self, most: u64) {
        std::thread::sleep(Duration::from_millis(self.chance.below(most)));
    }

    fn draw_edge(&mut self) -> &'static str {
        EDGES[self.chance.below(3) as usize]
    }

    /// Lets no more samples come to an edge, and waits until it has taken in all there are.
    fn settle(&mut self, edge: &'static str) {
        let (records, labelled) = {
            let mut books = self.feed.of(edge);
            books.is_quiet = true;
            (books.records, books.labelled())
        };
        self.members
            .wait_until(&format!("{edge} has taken in all"), |fleet| {
                fleet.status(edge)["commit"]["records"] == records
                    && recount::labelled_at(fleet, edge) == Some(labelled)
            });
    }

    /// Waits until all that an edge shares has left it.
    fn sent(&mut self, edge: &'static str) {
        self.members
            .wait_until(&format!("{edge} has sent all"), |fleet| {
                fleet.status(edge)["outbox"]["waiting"] == 0
            });
    }

    /// Waits until the cloud has all samples that edges share, and none comes any more.
    fn gathered(&mut self) {
        for edge in EDGES {
            self.gathered_of(edge);
        }
        let (mut before, mut still) = (None, 0);
        self.members.wait_until("the cloud is at rest", |fleet| {
            let found = fleet.status("cloud")["commit"]["samples"].as_u64();
            still = if found == before { still + 1 } else { 0 };
            before = found;
            still > 5
        });
    }

    /// Waits until the cloud has all samples that an edge shares.
    fn gathered_of(&mut self, edge: &'static str) {
        let shared = self.feed.of(edge).shared() as u64;
        let is_exact = !self.backups.was_restored(edge);
        self.members
            .wait_until(&format!("the cloud has all of {edge}"), |fleet| {
                let found = fleet.status("cloud")["edges"][edge]["samples"].as_u64();
                found == Some(shared) || !is_exact && found > Some(shared)
            });
    }

    /// Waits until an edge has what the cloud has published. Of tasks that a restored cloud does
    /// not know it keeps what it has.
    fn follows(&mut self, edge: &'static str) {
        self.members
            .wait_until(&format!("{edge} follows"), |fleet| {
                let (cloud, edge) = (fleet.status("cloud"), fleet.status(edge));
                let published = cloud["revisions"].as_object();
                let is_known =
                    |(task, revision): (&String, &Value)| edge["revisions"][task] == *revision;
                cloud["trainings"] == 0 && published.is_some_and(|all| all.iter().all(is_known))
            });
    }

    /// Lets all edges get samples again.
    fn resume_feed(&self) {
        for edge in EDGES {
            self.feed.of(edge).is_quiet = false;
        }
    }

    /// Stops all, and recounts.
    fn end(mut self) -> Outcome {
        let length = self.began.elapsed().as_secs_f64();
        self.say("the year is over");
        self.feed.stop();
        for edge in EDGES {
            self.settle(edge);
            self.sent(edge);
        }
        self.gathered();
        for edge in EDGES {
            self.follows(edge);
        }
        names().for_each(|name| self.members.stop(name));
        let counts = recount::check(&self);
        let (tenths, grown) = self.vitals.tenths(length);
        Outcome {
            counts,
            tenths,
            grown,
        }
    }
}
