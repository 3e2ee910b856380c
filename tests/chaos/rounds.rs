//! Rounds of faults for a pipeline and its broker.

use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use support::kafka::{Broker, Position, SESSION};
use support::process::signal;
use support::stream::Chance;
use support::{Bench, copy_folder};

/// Time limit of each wait.
const PATIENCE: Duration = Duration::from_secs(120);
/// Longer than a transaction's timeout, and shorter than the controller's for the broker.
pub const PAUSE: Duration = Duration::from_millis(4500);

/// The fault of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misfortune {
    /// Kills the pipeline at a random moment.
    Killed,
    /// Kills the pipeline at a point.
    KilledAt(&'static str),
    /// Kills and restarts the broker.
    BrokerKilled,
    /// Halts the broker for longer than a transaction's timeout.
    BrokerHalted,
    /// Halts the pipeline as long.
    Halted,
    /// Halts the pipeline until another process has taken over, then lets it go on.
    Zombie,
    /// The same, at a point of a commit.
    ZombieAt(&'static str),
}

use Misfortune::{BrokerHalted, BrokerKilled, Halted, Killed, KilledAt, Zombie, ZombieAt};

/// One of each kind, and more of the usual ones.
pub const DECK: [Misfortune; 15] = [
    Killed,
    Killed,
    KilledAt("commit: before outputs"),
    KilledAt("commit: after outputs"),
    KilledAt("commit: prepared"),
    KilledAt("commit: decided"),
    KilledAt("commit: after knowledge"),
    KilledAt("swap: decided"),
    KilledAt("swap: replaced"),
    BrokerKilled,
    BrokerHalted,
    Halted,
    Zombie,
    ZombieAt("commit: prepared"),
    ZombieAt("commit: decided"),
];

impl Misfortune {
    /// Whether it kills.
    pub fn is_kill(self) -> bool {
        matches!(self, Killed | KilledAt(_) | BrokerKilled)
    }
}

/// A process, killed when dropped.
struct Process {
    child: Child,
    /// The file with its standard error.
    errors: PathBuf,
}

impl Process {
    fn id(&self) -> u32 {
        self.child.id()
    }

    fn kill(&mut self) {
        self.child.kill().expect("a kill");
        self.child.wait().expect("an end");
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child")
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.errors).unwrap_or_default()
    }

    /// Whether it is halted.
    fn is_halted(&self) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{}/stat", self.id()));
        // The state follows the name, which is in parentheses.
        status.is_ok_and(|status| status.rsplit_once(") T ").is_some())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A pipeline under faults.
pub struct Rounds {
    bench: Bench,
    broker: Arc<Broker>,
    position: Position,
    chance: Chance,
    running: Option<Process>,
    /// The state folder.
    state: String,
    /// Number of processes started.
    starts: usize,
}

impl Rounds {
    pub fn new(bench: Bench, broker: &Arc<Broker>, position: Position, chance: Chance) -> Rounds {
        Rounds {
            bench,
            broker: broker.clone(),
            position,
            chance,
            running: None,
            state: "state".to_string(),
            starts: 0,
        }
    }

    fn command(&self) -> Command {
        let arguments = ["run", "config.yaml", "--report", "report.json"];
        let mut command = self.bench.command(&arguments);
        command.args(["--workers", "2", "--state", &self.state]);
        command
    }

    fn start(&mut self, mut command: Command) -> Process {
        self.starts += 1;
        let errors = self.bench.path(&format!("run-{}.err", self.starts));
        let file = std::fs::File::create(&errors).expect("a file is made");
        let child = command.stdout(Stdio::null()).stderr(file).spawn();
        Process {
            child: child.expect("the program starts"),
            errors,
        }
    }

    /// The running process, or a new one.
    fn process(&mut self) -> &mut Process {
        if self.running.is_none() {
            let started = self.start(self.command());
            self.running = Some(started);
        }
        self.running.as_mut().expect("a process")
    }

    /// Stops the process with a signal, if it runs.
    fn stop(&mut self) {
        let Some(mut process) = self.running.take() else {
            return;
        };
        // Before its signal handler is set the signal kills it; and it does not wait long for a
        // busy broker.
        signal(process.id(), "TERM");
        let status = wait_for("the end", || process.ended());
        let said = process.said();
        let is_in_order = status.code().is_none_or(|code| code == 0);
        assert!(is_in_order || said.contains("was told to stop"), "{said}");
    }

    fn moment(&mut self, most: u64) -> Duration {
        Duration::from_millis(self.chance.below(most))
    }

    /// Waits until a commit, starting a new process if the running one ends with one of the
    /// `expected` errors.
    fn goes_on(&mut self, expected: &[&str]) {
        let before = wait_for("the group's offsets", || self.position.committed());
        let began = Instant::now();
        loop {
            let process = self.process();
            if let Some(status) = process.ended() {
                let said = process.said();
                let is_expected = expected.iter().any(|words| said.contains(words));
                assert!(is_expected, "it ends by itself: {status}: {said}");
                println!("            it has ended, and is started again");
                self.running = None;
            }
            if self.position.committed().is_some_and(|now| now > before) {
                return;
            }
            if began.elapsed() > PATIENCE {
                panic!("it does not go on: {}", self.process().said());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Runs a round.
    pub fn round(&mut self, misfortune: Misfortune) {
        // The errors of a transaction that timed out: its process is fenced, or the result of its
        // end is lost.
        let timed_out = [
            "another process has taken over",
            "whether the last transaction counts",
        ];
        match misfortune {
            Killed => {
                self.process();
                std::thread::sleep(self.moment(2000));
                self.process().kill();
                self.running = None;
            }
            KilledAt(point) => self.killed_at(point),
            BrokerKilled => {
                self.goes_on(&[]);
                let pause = SESSION + Duration::from_millis(500) + self.moment(2000);
                self.broker.crash(pause);
                self.goes_on(&timed_out);
            }
            BrokerHalted => {
                self.goes_on(&[]);
                std::thread::sleep(self.moment(200));
                self.broker.pause(PAUSE);
                self.goes_on(&timed_out);
            }
            Halted => {
                self.goes_on(&[]);
                std::thread::sleep(self.moment(200));
                let id = self.process().id();
                signal(id, "STOP");
                std::thread::sleep(PAUSE);
                signal(id, "CONT");
                self.goes_on(&timed_out);
            }
            Zombie => {
                self.goes_on(&[]);
                std::thread::sleep(self.moment(200));
                signal(self.process().id(), "STOP");
                self.replaced();
            }
            ZombieAt(point) => {
                self.stop();
                let mut command = self.command();
                let times = 3 + self.chance.below(5);
                command.env("PERENNIAL_HALT_AT", format!("{point}#{times}"));
                let process = self.start(command);
                wait_for(point, || process.is_halted().then_some(()));
                self.running = Some(process);
                self.replaced();
            }
        }
    }

    fn killed_at(&mut self, point: &str) {
        self.stop();
        let mut command = self.command();
        let most = if point.starts_with("swap") { 2 } else { 5 };
        let times = 1 + self.chance.below(most);
        command.env("PERENNIAL_KILL_AT", format!("{point}#{times}"));
        let mut process = self.start(command);
        let status = wait_for(point, || process.ended());
        assert_eq!(status.code(), None, "{point}: {}", process.said());
    }

    /// Starts another process with a copy of the halted one's state, then lets the halted one go
    /// on: it must find out.
    fn replaced(&mut self) {
        let mut zombie = self.running.take().expect("a process");
        wait_for("a halt", || zombie.is_halted().then_some(()));
        let copy = format!("state-{}", self.starts);
        copy_folder(&self.bench.path(&self.state), &self.bench.path(&copy));
        let before = std::mem::replace(&mut self.state, copy);
        self.goes_on(&[]);
        signal(zombie.id(), "CONT");
        let status = wait_for("the zombie's end", || zombie.ended());
        let said = zombie.said();
        let is_fenced = said.contains("another process has taken over");
        assert!(status.code() == Some(1) && is_fenced, "{status}: {said}");
        self.goes_on(&[]);
        std::fs::remove_dir_all(self.bench.path(&before)).expect("the old state is removed");
    }

    /// Stops it, works through the rest, and returns the bench and the state folder.
    pub fn finish(mut self) -> (Bench, String) {
        self.stop();
        let mut command = self.command();
        command.args(["--set", "source.kafka.stop_at_end=true"]);
        let mut process = self.start(command);
        let status = wait_for("the end", || process.ended());
        assert!(status.success(), "{}", process.said());
        (self.bench, self.state)
    }
}

/// Polls until there is an answer.
#[track_caller]
fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(began.elapsed() < PATIENCE, "{what} does not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}
