//! The processes of the fleet: started again when they are killed or end as they may.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::fleet::{Fleet, Running};

use super::config::EDGES;
use super::vitals::{Figure, Vitals};

/// What is logged: warnings, and how a run begins.
const LOGGED: &str = "warn,perennial::run=info";
/// What a run logs when its state is read.
const READY: &str = "the state is read";

/// Time between two looks at what is waited for, beside that of the fleet.
const LOOK: Duration = Duration::from_millis(150);

/// The errors of a transaction that timed out: its process is fenced, or the result of its end is
/// lost. The next start goes on.
const EXPECTED: [&str; 2] = [
    "another process has taken over",
    "whether the last transaction counts",
];

/// A process, and its start.
struct Member {
    running: Option<Running>,
    /// When it was started, seconds of the day, and how long its log was by then.
    began: Option<(f64, u64)>,
}

/// The cloud and the edges.
pub struct Members {
    pub fleet: Rc<Fleet>,
    members: BTreeMap<&'static str, Member>,
    vitals: Arc<Vitals>,
}

/// All members.
pub fn names() -> impl Iterator<Item = &'static str> {
    EDGES.into_iter().chain(["cloud"])
}

impl Members {
    pub fn new(fleet: &Rc<Fleet>, vitals: &Arc<Vitals>) -> Members {
        let member = || Member {
            running: None,
            began: None,
        };
        Members {
            fleet: fleet.clone(),
            members: names().map(|name| (name, member())).collect(),
            vitals: vitals.clone(),
        }
    }

    fn member(&mut self, name: &str) -> &mut Member {
        self.members.get_mut(name).expect("a member")
    }

    pub fn start(&mut self, name: &'static str) {
        let log = self.fleet.bench.path(&format!("{name}.log"));
        let length = std::fs::metadata(log).map_or(0, |log| log.len());
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let second = since.expect("a time after 1970").as_secs_f64() % 86_400.0;
        let running = self.fleet.start_logging(name, LOGGED);
        self.vitals.watch(name, Some(running.id()));
        let member = self.member(name);
        member.running = Some(running);
        member.began = Some((second, length));
    }

    /// Kills a process.
    pub fn kill(&mut self, name: &'static str) {
        self.note_start(name);
        self.vitals.watch(name, None);
        drop(self.member(name).running.take());
    }

    /// Stops a process as an operator does.
    pub fn stop(&mut self, name: &'static str) {
        self.note_start(name);
        self.vitals.watch(name, None);
        if let Some(running) = self.member(name).running.take() {
            running.stop();
        }
    }

    pub fn hang_up(&mut self, name: &str) {
        self.member(name)
            .running
            .as_ref()
            .expect("it runs")
            .hang_up();
    }

    /// Notes how long its latest start took, once its log tells.
    fn note_start(&mut self, name: &'static str) {
        let log = self.fleet.bench.path(&format!("{name}.log"));
        let member = self.member(name);
        let Some((began, length)) = member.began else {
            return;
        };
        let mut said = Vec::new();
        let file = std::fs::File::open(log).and_then(|mut file| {
            file.seek(SeekFrom::Start(length))?;
            file.read_to_end(&mut said)
        });
        file.expect("a log");
        let said = String::from_utf8_lossy(&said);
        if let Some(line) = said.lines().find(|line| line.contains(READY)) {
            member.began = None;
            let took = (second_of_day(line) - began).rem_euclid(86_400.0);
            self.vitals.note(name, Figure::Start, took);
        }
    }

    /// Starts again whoever has ended with an error that a fault of Kafka may have.
    pub fn tend(&mut self) {
        for name in names() {
            self.note_start(name);
            let ended = self.member(name).running.as_mut().and_then(Running::ended);
            let Some(status) = ended else { continue };
            let log = self.fleet.log(name);
            let said: Vec<&str> = log.lines().rev().take(5).collect();
            let is_expected = EXPECTED
                .iter()
                .any(|words| said.iter().any(|line| line.contains(words)));
            assert!(is_expected, "{name} ends by itself: {status}: {said:#?}");
            println!("            {name} has ended, and is started again");
            self.start(name);
        }
    }

    /// Waits until `holds` is true, while ended processes are started again.
    #[track_caller]
    pub fn wait_until(&mut self, what: &str, mut holds: impl FnMut(&Fleet) -> bool) {
        let fleet = self.fleet.clone();
        fleet.wait_until(what, || {
            self.tend();
            // A look at a state is a process.
            let is_so = holds(&fleet);
            std::thread::sleep(LOOK);
            is_so
        });
    }

    /// Waits until each of these has made two more commits.
    #[track_caller]
    pub fn go_on(&mut self, names: &[&'static str]) {
        let commits = |fleet: &Fleet, name: &str| fleet.status(name)["commit"]["commits"].as_u64();
        for name in names {
            let before = commits(&self.fleet, name);
            let began = Instant::now();
            self.wait_until(&format!("{name} goes on"), |fleet| {
                commits(fleet, name) >= before.map_or(Some(2), |before| Some(before + 2))
            });
            let seconds = began.elapsed().as_secs();
            if seconds >= 10 {
                println!("            {name} goes on after {seconds} s");
            }
        }
    }
}

/// The second of the day in the timestamp at the beginning of a line.
fn second_of_day(line: &str) -> f64 {
    let time = line.split_once('T').map_or("", |(_, time)| time);
    let time = time.split('Z').next().unwrap_or_default();
    let parts = time.split(':').map(|part| part.parse::<f64>());
    let second = parts.fold(0.0, |second, part| second * 60.0 + part.expect("a number"));
    assert!(second > 0.0, "{line}");
    second
}
